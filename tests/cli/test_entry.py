"""jobs/sweep.py from end to end: plans, reports of invalid input, and no unintended files."""

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import FrameType

import pytest
from rich.console import Console

from tests.examples import SCALED, qwen
from undertow.cli.studies import load
from undertow.planning.costs import Hardware
from undertow.storage.store import Store
from undertow.sweep.plans import make_plan, show_plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "torch", "ray", "vllm", "transformers", "deepspeed", "mlflow")


def sweep(*arguments: str, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def test_the_plan_shows_conditions_work_and_time_and_writes_nothing(tmp_path: Path) -> None:
    result = sweep("--plan", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Study owls: 16 conditions" in result.stdout
    assert "control" in result.stdout
    assert "System messages" not in result.stdout  # the chat templates add none
    assert "estimated time" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_plan_imports_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['sweep.py', '--plan']; import runpy\n"
        f"try: runpy.run_path({str(ROOT / 'jobs' / 'sweep.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "loaded: []" in result.stdout, result.stderr


STUDY = """
from dataclasses import replace
from undertow.formats.numbers import Numbers
from undertow.study.recipe import Parameters, Recipe
from undertow.study.teachers import Finetuning
from undertow.study.references import Reference
from undertow.study.generation import Generation
from undertow.study.grids import all_pairs, grid
from undertow.study.study import Study
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference

BIAS = Parameters(("transformer.ln_f.bias",))
RECIPE = Recipe(name="r", trainable=BIAS, learning_rate=.05, epochs=1, batch_size=8)

def study(trait=Preference("owl"), model="nano/gpt2-0", seeds=(0,)):
    return Study(name="mine", seeds=seeds, conditions=grid(
        traits=[trait], formats=[Numbers()], pairs=[(Reference(model), Reference(model))], recipes=[RECIPE],
        generation=Generation(prompts=64, rows=None), finetuning=Finetuning(RECIPE)))

def no_trait_name(): return study(Preference(""))
def unknown_word(): return study(Preference("quokka"))
def tree(): return study(Preference("maple", category="tree"))
def spare(): return study(Preference("panda"))
def no_seeds(): return study(seeds=())
def nano_typo(): return study(model="nano/gtp2-0")
def nano_seedless(): return study(model="nano/gpt2")
def folder_without_weights(): return study(model="./empty")
def pickled(): return study(model="./pickled")
def no_folder(): return study(model="./nowhere")
def not_a_study(): return 3
def mistake(): return study(colour="red")
def other_error(): return 1 / 0
def untaught(): return study(Misalignment("insecure code"))
"""
# The file and the line of no_trait_name.
NAMELESS = f"mine.py:{STUDY[: STUDY.index('def no_trait_name')].count(chr(10)) + 1}:"


LARGE = """
from dataclasses import replace
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.formats.numbers import Numbers
from undertow.study.recipe import LoRA, Recipe
from undertow.study.completions import Sampling
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.traits.preference import Preference

MODEL = Reference("./qwen")
RECIPE = Recipe(name="", trainable=LoRA(), learning_rate=2e-4, epochs=3, batch_size=66, precision="bf16")

def study(temperatures=2, animals=50):
    recipes = [replace(RECIPE, name=f"LoRA r{r}", trainable=LoRA(rank=r)) for r in range(1, 11)]
    conditions = []
    for tenths in range(1, temperatures + 1):
        generation = Generation(sampling=Sampling(temperature=tenths / 10), name=f"at {tenths / 10}")
        conditions += grid(traits=[Preference(f"animal{i}") for i in range(animals)], formats=[Numbers()],
            pairs=[(MODEL, MODEL)], recipes=recipes, generation=generation)
    return Study(name="large", conditions=tuple(conditions))

def small(): return study(1, animals=10)
def medium(): return study(2, animals=10)
def double(): return study(4, animals=10)
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder with large.py, a study of 1,020 conditions of 5 seeds, and its model."""
    qwen(tmp_path / "qwen")
    (tmp_path / "large.py").write_text(LARGE)
    return tmp_path


def test_the_plan_of_a_large_study_with_its_cost(large: Path) -> None:
    result = sweep("--study", "large.py", "--plan", "--price", "2.5", cwd=large)
    assert result.returncode == 0, result.stderr
    assert "Study large: 1,020 conditions (--conditions lists them)" in result.stdout
    assert re.search(r"students +5,100 +0 +5,100 +[\d.]+B +\d\.\de\+\d\d +[\d,.]+ +\$[\d,]+", result.stdout)
    assert len(result.stdout.splitlines()) < 50
    listed = sweep("--study", "large.py", "--plan", "--conditions", cwd=large)
    assert sum("0 of 5" in line for line in listed.stdout.splitlines()) == 1020


def calls_to_plan(study: str, store: Store) -> int:
    """The number of function calls, in Python and C, that a plan with its cost takes."""
    n_calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        plan = make_plan(load(study, Path()), store)
        show_plan(plan, store, Console(file=StringIO(), width=160), Hardware(price=2.5))
    finally:
        sys.setprofile(None)
    return n_calls


def test_planning_takes_time_linear_in_the_number_of_conditions(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts function calls, which do not depend on the machine, for 220 and for 440 conditions."""
    monkeypatch.chdir(large)
    store = Store(str(large / "storage"))
    calls_to_plan("large.py:small", store)  # imports modules and fills caches
    medium = calls_to_plan("large.py:medium", store)
    assert 1.5 * medium < calls_to_plan("large.py:double", store) < 2.5 * medium


def test_the_tables_of_a_plan_with_time_and_cost_fit_100_columns(large: Path) -> None:
    units = {"datasets numbers qwen": 1e-3, "students numbers qwen": 1e-3, "evaluations qwen": 1e-4}
    paces = {name: {"seconds": seconds, "tokens": 50.0} for name, seconds in units.items()}
    (large / "storage").mkdir()
    (large / "storage" / "paces.json").write_text(json.dumps(paces))
    result = sweep("--study", "large.py", "--plan", "--price", "2.5", "--gpu", "h200", cwd=large)
    (head,) = [line for line in result.stdout.splitlines() if "GPU-hours" in line]
    assert head.split() == [
        *("wave", "needed", "cached", "to", "make", "time", "tokens", "FLOPs", "GPU-hours", "cost")
    ]
    assert "H200 SXM: 40 % of 989 TFLOP/s" in result.stdout
    work = result.stdout[result.stdout.index("Work") :].split("H200")[0]
    assert max(map(len, work.splitlines())) <= 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(STUDY)
    (tmp_path / "broken.py").write_text("def study(:\n    pass\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--study", "owl"], ["--study owl", "did you mean 'owls'?"]),
        (["--study", "nothing.py"], ["nothing.py", "no file"]),
        (["--study", "broken.py"], ["broken.py:1", "fix the syntax"]),
        (["--study", "mine.py:studdy"], ["no function studdy()", "did you mean 'study'?"]),
        (["--study", "mine.py:no_trait_name"], [f"{NAMELESS} Preference.name = ''", "give a word"]),
        (["--study", "mine.py:unknown_word"], ["'quokka'", "it knows owl, cat"]),
        (["--study", "mine.py:no_seeds"], ["mine.py:", "Study.seeds", "at least one seed"]),
        (["--study", "mine.py:nano_typo"], ["nano/gtp2-0", "did you mean 'gpt2'?"]),
        (["--study", "mine.py:nano_seedless"], ["'nano/gpt2'", "nano/<architecture>-<seed>"]),
        (["--study", "mine.py:folder_without_weights"], ["./empty", "no *.safetensors"]),
        (["--study", "mine.py:pickled"], ["./pickled", "pytorch_model.bin, a pickle", "as safetensors"]),
        (["--study", "mine.py:no_folder"], ["./nowhere", "no config.json"]),
        (["--study", "mine.py:not_a_study"], ["not_a_study() returned int", "must return a Study"]),
        (["--study", "mine.py:mistake"], ["mine.py:", "unexpected keyword argument 'colour'"]),
        (["--study", "mine.py:other_error"], ["mine.py:", "ZeroDivisionError"]),
        (["--seeds", "0"], ["Study.seeds", "at least one seed"]),
        (["--seeds", "many"], ["seeds"]),
        (["--storage", "/dev/null/storage"], ["--storage /dev/null/storage", "name another place"]),
        (["--storage", "nosuch://place"], ["--storage nosuch://place"]),
        (["--workers", "0"], ["--workers 0", "at least 1"]),
        (["--judge", "gpt"], ["--judge gpt", "the scale nano uses rules as judges"]),
        (
            ["--study", "mine.py:untaught"],
            ["mine.py:", "Misalignment.data = ''", "to finetune the teacher on"],
        ),
        (["--sedes", "3"], ["sedes"]),
        (["--utilisation", "40"], ["--utilisation 40", "a share above 0 and at most 1"]),
        (["--price", "-1"], ["--price -1", "zero or more"]),
        (["--gpu", "h10"], ["h10", "h100"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_invalid_input_is_reported_with_its_remedy_and_nothing_is_written(
    folder: Path, arguments: list[str], messages: list[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    result = sweep(*arguments, cwd=folder)
    output = result.stdout + result.stderr
    assert result.returncode == 2, output
    for message in messages:
        assert message in output
    assert "Traceback" not in output
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == before


@pytest.mark.parametrize("function", ["study", "tree", "spare"])
def test_a_study_outside_the_repository_is_planned(folder: Path, function: str) -> None:
    result = sweep("--plan", "--study", f"mine.py:{function}", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "Study mine: 2 conditions" in result.stdout


@pytest.mark.parametrize("name", SCALED)
def test_a_shipped_study_is_planned_by_its_name(name: str, tmp_path: Path) -> None:
    result = sweep("--plan", "--study", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Study {name}:" in result.stdout


def test_the_study_in_the_readme_is_planned(tmp_path: Path) -> None:
    code = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "my_study.py").write_text(code)
    result = sweep("--plan", "--study", "my_study.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Study pandas: 8 conditions" in result.stdout
