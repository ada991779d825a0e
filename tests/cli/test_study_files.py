"""Study files in a user's project: paths with colons, and modules next to the file, on workers too."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import cloudpickle

from undertow.cli.studies import load
from undertow.errors import UserError
from undertow.study.study import Study
from undertow.study.user_modules import user_modules

STUDY = """
from dataclasses import dataclass
import {module}
from {module} import WORD
from undertow.presets.scales import NANO
from undertow.study.extensions import Trait

def study(scale=NANO):
    from {module} import named
    return named(scale, "default")

def rank(scale=NANO):
    return {module}.named(scale, "rank")

def word():
    return {module}.double(WORD)
"""
HELPER = """
import dataclasses
import random
import undertow
from pathlib import Path

WORD = "owl"

def named(scale, name):
    from undertow.cli.studies import load
    return dataclasses.replace(load("owls", Path({shipped!r}), scale), name=name)

def double(text):
    assert random.random() < 1  # the standard library's
    return text * 2
"""
SHIPPED = Path(__file__).parents[2] / "jobs" / "studies"
WORKER = "import pickle, sys; print(pickle.load(sys.stdin.buffer)())"


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path) -> Iterator[None]:
    """Forgets the modules and folders of a test's study files."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def project(folder: Path, name: str = "my study.py", module: str = "helper") -> Path:
    """A folder with a study file and the module that it imports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(STUDY.format(module=module))
    helper = folder / f"{module.replace('.', '/')}.py"
    helper.parent.mkdir(exist_ok=True)
    if helper.parent != folder:
        (helper.parent / "__init__.py").touch()
    helper.write_text(HELPER.format(shipped=str(SHIPPED)))
    (folder / "random.py").write_text("raise RuntimeError('the standard library was shadowed')")
    return folder / name


@pytest.mark.parametrize(
    ("file", "argument", "expected"),
    [
        ("study.py", "{}", "default"),
        ("study.py", "{}:", "default"),
        ("study.py", "{}:rank", "rank"),
        ("12:30:00/my study.py", "{}", "default"),
        ("12:30:00/my study.py", "{}:rank", "rank"),
        ("a.py:b/study.py", "{}:rank", "rank"),
        ("a:b.py", "{}:rank", "rank"),
        ("v1.py.py", "{}:rank", "rank"),
        ("code.py", "{}:rank", "rank"),  # also the name of a module of the standard library
    ],
)
def test_a_study_is_loaded_from_any_path(tmp_path: Path, file: str, argument: str, expected: str) -> None:
    path = tmp_path / file
    project(path.parent, path.name)
    assert load(argument.format(path), SHIPPED).name == expected


def test_a_relative_path_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "12:30")
    monkeypatch.chdir(tmp_path)
    assert load("12:30/my study.py:rank", SHIPPED).name == "rank"


@pytest.mark.parametrize("name", ["12:30/none.py:rank", "none.pyc", "none.py:a:b", "none.py.d/x"])
def test_a_missing_file_is_reported_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^--study {name}: there is no file "):
        load(name, SHIPPED)


def test_a_missing_module_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "study.py"
    file.write_text("\nimport no_such_module\n")
    with pytest.raises(UserError, match=r"study.py:2: ModuleNotFoundError: No module named 'no_such_module'"):
        load(str(file), SHIPPED)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("grid(traitz=[])", r"TypeError: grid\(\) got .* 'traitz'; did you mean 'traits'\?"),
        ("Study(sample=3)", r"TypeError: Study\.__init__\(\) got .* 'sample'; did you mean 'samples'\?"),
        ("Recipe(learningrate=1)", r"'learningrate'; did you mean 'learning_rate'\?"),
        ("NANO.on(modells=())", r"Scale\.on\(\) got .* 'modells'; did you mean 'models'\?"),
        ("STEERING.changed(epoch=1)", r"Recipe has no field epoch; did you mean 'epochs'\?"),
        ("from undertow import NAMO", r"ImportError: .*; did you mean 'NANO'\?"),
        ("from undertow.presets.scales import NAMO", r"ImportError: .*; did you mean 'NANO'\?"),
        ("import undertow; undertow.Studdy", r"AttributeError: .*; did you mean 'Study'\?"),
        ("NANO.sampels", r"AttributeError: .*; did you mean 'samples'\?"),
        ("Hypothesis()", r"NameError: .*; add: from undertow import Hypothesis"),
        ("Preferense()", r"NameError: .*; did you mean 'Preference'\?"),
        ("nonsense(traitz=1)", r"nonsense\(\) got an unexpected keyword argument 'traitz'"),
        ("'text'.uper()", r"AttributeError: 'str' object has no attribute 'uper'"),
        ("Recipe()", r"missing 4 required keyword-only arguments: .*'batch_size'"),
    ],
)
@pytest.mark.parametrize("called", [True, False], ids=["in the function", "in the module"])
def test_a_misspelled_name_is_reported_with_a_suggestion(
    tmp_path: Path, line: str, message: str, called: bool
) -> None:
    file, indent = tmp_path / "study.py", "    " if called else ""
    start = "from undertow import NANO, STEERING, Recipe, Study, grid\nnonsense = lambda: 0\n"
    file.write_text(f"{start}{'def study():' if called else ''}\n{indent}{line}\n")
    message = message.replace("nonsense", "<lambda>")
    with pytest.raises(UserError, match=rf"study\.py:4: .*{message}$"):
        load(str(file), SHIPPED)


@pytest.mark.parametrize("name", ["UserError", "SpecError", "ConditionError"])
@pytest.mark.parametrize("called", [True, False], ids=["in the function", "in the module"])
def test_an_error_of_the_project_is_reported_without_its_class(
    tmp_path: Path, name: str, called: bool
) -> None:
    file = tmp_path / "study.py"
    start = f"from undertow.errors import {name}\n{'def study():' if called else 'if True:'}\n"
    file.write_text(f"{start}    raise {name}('two models are needed')\n")
    with pytest.raises(UserError, match=r"study\.py:3: two models are needed$"):
        load(str(file), SHIPPED)


def test_only_functions_of_the_study_file_are_suggested(tmp_path: Path) -> None:
    file = tmp_path / "study.py"
    file.write_text("from undertow import Study, grid\ndef owls(): ...\ndef cats(): ...\ndef _own(): ...\n")
    with pytest.raises(UserError, match=r"no function zebra\(\); available: cats, owls$"):
        load(f"{file}:zebra", SHIPPED)
    file.write_text("from undertow import Study, grid\n")
    with pytest.raises(UserError, match=r"no function study\(\); define it: def study\(\) -> Study$"):
        load(str(file), SHIPPED)


def test_a_folder_does_not_hide_an_installed_package(tmp_path: Path) -> None:
    file = project(tmp_path)
    (tmp_path / "moto").mkdir()
    file.write_text(f"import moto\nassert moto.__file__ is not None\n{file.read_text()}")
    assert isinstance(load(str(file), SHIPPED), Study)


@pytest.mark.parametrize("module", ["helper", "parts.helper"])
def test_workers_receive_the_modules_next_to_a_study_file(tmp_path: Path, module: str) -> None:
    file = project(tmp_path / "project", module=module)
    load(str(file), SHIPPED)
    modules = [found for found in user_modules() if Path(str(found.__file__)).is_relative_to(tmp_path)]
    expected = {"undertow_study_my study", module, module.partition(".")[0]}
    assert {found.__name__ for found in modules} == expected
    study = next(found for found in modules if found.__name__.endswith("my study"))
    for found in modules:
        cloudpickle.register_pickle_by_value(found)
    try:
        sent = cloudpickle.dumps(study.word)
    finally:
        for found in modules:
            cloudpickle.unregister_pickle_by_value(found)
    worker = subprocess.run(
        [sys.executable, "-c", WORKER], input=sent, capture_output=True, check=True, cwd=tmp_path
    )
    assert worker.stdout == b"owlowl\n"
    assert pickle.loads(sent)() == "owlowl"
