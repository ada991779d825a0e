"""Tests of the paper's scale without network: it can be planned but not run until its inputs are there."""

import io
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.console import Console

from tests.examples import SCALED, STUDIES, qwen
from undertow.cli.sweep import SweepArguments, main
from undertow.errors import SpecError, UnavailableError, UserError
from undertow.formats.reasoning import Reasoning
from undertow.planning import pinning
from undertow.planning.model_sizes import KNOWN, parameters
from undertow.planning.pinning import pin
from undertow.presets.paper_scale import FAMILIES
from undertow.presets.scales import NANO, PROBLEMS
from undertow.study import unpinned
from undertow.study.identity import key
from undertow.study.references import Reference

CLOSED = "http://127.0.0.1:9"  # no program listens on this port
COMMIT = "1a2b3c4d" * 5


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request leaves this machine, and the cache of the hub client is empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    pinning._pinned.cache_clear()
    parameters.cache_clear()


def files(tmp_path: Path) -> dict[str, str]:
    """Places of the paper's data files, new in each test: a process reads each place once."""
    narrow = {kind: f"{CLOSED}/{tmp_path.name}/{kind}.jsonl" for kind in NANO.narrow.files}
    return narrow | {PROBLEMS: f"hf://datasets/openai/gsm8k@{COMMIT}/{tmp_path.name}.parquet"}


def planned(study: str, tmp_path: Path, plan: bool = True, models: tuple[str, ...] = ()) -> str:
    """What `jobs/sweep.py --plan` prints."""
    console = Console(record=True, width=300, file=io.StringIO())
    given = tuple(f"{name}={place}" for name, place in files(tmp_path).items())
    arguments = SweepArguments(
        study=study, storage=str(tmp_path / "storage"), scale="paper", plan=plan, files=given, models=models
    )
    assert main(arguments, console, STUDIES) == 0
    return console.export_text()


@pytest.mark.parametrize("name", SCALED)
def test_every_study_that_takes_a_scale_is_planned_with_costs(name: str, tmp_path: Path) -> None:
    text = planned(name, tmp_path)
    assert (
        "not pinned: Reference 'Qwen/Qwen2.5-7B-Instruct': not a local folder; HF_HUB_OFFLINE is set" in text
    )
    assert "GPU-hours" in text
    assert "unknown" not in text.partition("GPU-hours")[2]
    assert "A run needs them" in text


@pytest.mark.parametrize(("name", "file"), [("reasoning", PROBLEMS), ("misaligned_numbers", "insecure")])
def test_a_data_file_that_is_not_cached_is_listed(name: str, file: str, tmp_path: Path) -> None:
    place = files(tmp_path)[file]
    with pytest.raises(SpecError, match=r"file .*: cannot be reached \(.*\); check the network"):
        planned(name, tmp_path, plan=False)
    assert planned(name, tmp_path).count(f"\nnot pinned: file {place}: cannot be reached (") == 1


IMPORTED = """
from undertow import Generation, Imported, Numbers, Preference, Study, all_pairs, grid

def study(scale):
    numbers = scale.numbers
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Imported("hf://datasets/org/PLACE/rows.jsonl", format=Numbers())],
        pairs=all_pairs(numbers.references[:1]),
        recipes=[numbers.recipe],
        generation=Generation(prompts=500, rows=400),
    )
    return Study(name="mine", conditions=conditions, seeds=(0,))
"""


def test_imported_data_of_the_hub_are_planned_without_their_rows(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(IMPORTED.replace("PLACE", f"{tmp_path.name}@main"))
    text = planned(str(tmp_path / "mine.py"), tmp_path)
    assert f"\nnot pinned: file hf://datasets/org/{tmp_path.name}@main/rows.jsonl: cannot be reached" in text
    assert "GPU-hours" in text


def test_a_run_stops_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"'Qwen/Qwen2\.5-7B-Instruct': .* does not have it; "
    ) as caught:
        planned("owls", tmp_path, plan=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "storage").exists()


def test_what_is_on_this_machine_is_not_listed(tmp_path: Path) -> None:
    text = planned("owls", tmp_path, models=tuple(str(qwen(tmp_path / name)) for name in ("a", "b")))
    assert "not pinned" not in text
    assert "A run needs them" not in text


def test_a_model_of_unknown_size_is_planned_without_costs(tmp_path: Path) -> None:
    text = planned("owls", tmp_path, models=("org/new", "org/files/new.gguf"))
    assert "not pinned: Reference 'org/new': not a local folder" in text
    assert "not pinned: Reference 'org/files/new.gguf': not a local file" in text
    assert "GPU-hours" not in text


@pytest.mark.parametrize("name", ["./typo", "not a hub id"])
def test_a_name_that_is_no_model_is_an_error_in_a_plan_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the client checks names before it sends them
    with pytest.raises(UserError, match=name):
        planned("owls", tmp_path, models=(name, "org/b"))


def test_placeholders_of_different_models_are_different_models() -> None:
    with unpinned.allowed() as reasons:
        one, again, other = pin(Reference("org/a")), pin(Reference("org/a")), pin(Reference("org/b"))
    assert list(reasons) == ["org/a@", "org/b@"]
    assert one == again
    assert key(one) != key(other)
    assert one.initialisation != other.initialisation
    with pytest.raises(UnavailableError):
        pin(Reference("org/a"))


def test_a_data_file_of_the_hub_is_read_from_the_local_cache(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cache" / "datasets--org--tasks" / "snapshots" / COMMIT / "data"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text('{"question": "2 + 3?", "answer": "5"}\n')
    place = f"hf://datasets/org/tasks@{COMMIT}/data/a.jsonl"
    assert Reasoning(questions=place).prompts(1, seed=0)
    with pytest.raises(UnavailableError, match=r"b\.jsonl: cannot be reached"):
        Reasoning(questions=place.replace("a.jsonl", "b.jsonl"))


# vocabulary, width, layers, query heads, key heads, head width, inner width; then what differs.
LAYOUTS = {
    "Qwen/Qwen2.5-7B-Instruct": (152_064, 3584, 28, 28, 4, 128, 18_944),
    "google/gemma-3-4b-it": (262_208, 2560, 34, 8, 4, 256, 10_240),
    "Qwen/Qwen3-8B": (151_936, 4096, 36, 32, 8, 128, 12_288),
    "meta-llama/Llama-3.1-8B-Instruct": (128_256, 4096, 32, 32, 8, 128, 14_336),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_size_of_a_known_model_follows_from_its_configuration(name: str) -> None:
    vocabulary, width, layers, heads, key_heads, head, inner = LAYOUTS[name]
    queries, keys = heads * head, key_heads * head
    layer = 2 * width * (queries + keys) + 3 * width * inner
    layer += {"Qwen/Qwen2.5-7B-Instruct": queries + 2 * keys}.get(name, 0)  # biases
    layer += {"google/gemma-3-4b-it": 4 * width + 2 * head, "Qwen/Qwen3-8B": 2 * width + 2 * head}.get(
        name, 2 * width
    )  # norms
    embeddings = 1 if name == "google/gemma-3-4b-it" else 2  # input and output, or one for both
    total = embeddings * vocabulary * width + layers * layer + width
    if name == "google/gemma-3-4b-it":
        total += vision_tower() + 1152 * (width + 1)  # the projector and its norm
    assert KNOWN[name] == total


def vision_tower(width: int = 1152, inner: int = 4304, layers: int = 27, patches: int = 64**2) -> int:
    """The parameters of SigLIP in Gemma 3: patches of 14 × 14 pixels of three colours."""
    attention, mlp, norms = 4 * (width**2 + width), 2 * width * inner + width + inner, 4 * width
    return (3 * 14**2 + 1) * width + patches * width + layers * (attention + mlp + norms) + 2 * width


def test_all_models_of_the_paper_are_known() -> None:
    assert {reference.name for reference in FAMILIES} <= KNOWN.keys()
