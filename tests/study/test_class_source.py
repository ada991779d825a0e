"""Tests that the key of a spec covers the source code of a class that is defined in a user's file."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from undertow.errors import SpecError
from undertow.planning.artifact_kinds import unregister_kind
from undertow.study.class_source import source_hash
from undertow.study.extensions import STUDY_MODULE
from undertow.study.fields import Spec
from undertow.study.identity import canonical, key
from undertow.traits.preference import Preference

STUDY = '''
"""A study file."""

import math, re
from dataclasses import dataclass

from undertow import Example, Trait, Word

SCALE = 2
OTHER = "unrelated"


def helper(count):
    """Doubles the count."""
    return count * SCALE


def unrelated():
    return OTHER


class Base(Trait):
    def word(self):
        return Word(self.name, (self.name,))


@dataclass(frozen=True)
class Custom(Base):
    """A trait."""

    strength: float = 1.0

    def system_prompt(self):
        return f"You love {self.name}."  # the wording

    def questions(self):
        return ("Which one?",) * helper(math.ceil(self.strength))
'''


def load(text: str, folder: Path, name: str = f"{STUDY_MODULE}custom") -> ModuleType:
    """The text as a module, as `cli.studies.load` imports a study file."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Not spec.loader: it would use the cached bytecode of an edit within the same second.
    exec(compile(text, path, "exec"), vars(module))
    return module


def key_with(old: str, new: str, folder: Path) -> str:
    """The key of a trait of the study file after an edit."""
    assert STUDY.count(old) >= 1
    return key(load(STUDY.replace(old, new), folder).Custom(name="owl"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("You love", "You adore"),
        ("count * SCALE", "count * SCALE + 1"),
        ("SCALE = 2", "SCALE = 3"),
        ("(self.name,)", "(self.name, self.name.title())"),
        ("import math, re", "import cmath as math, re"),
        ("SCALE = 2", "SCALE = 2\nif True:\n    import math"),
        ("strength: float = 1.0", "strength: float = 2.0"),
        ("SCALE = 2", "SCALE = 2\nif True:\n    SCALE = 4"),
        ("SCALE = 2", "SCALE = [2]\nSCALE.append(3)"),
        ("SCALE = 2", "SCALE = [2]\nfor one in (3, 4):\n    SCALE.append(one)"),
        ("SCALE = 2", "SCALE = {}\nSCALE['count'] = 3"),
        ("\n\ndef unrelated", "\n\nhelper.limit = 3\n\n\ndef unrelated"),
        ("@dataclass(frozen=True)", "@dataclass(frozen=True, repr=False)"),
    ],
    ids=[
        *("method", "function", "constant", "base", "import", "import in a block"),
        *("default", "second assignment"),
        *("appended", "appended in a loop", "item", "attribute", "decorator"),
    ],
)
def test_an_edit_of_the_code_that_a_class_uses_changes_the_key(old: str, new: str, tmp_path: Path) -> None:
    assert key_with(old, new, tmp_path) != key_with("", "", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # the wording", "  # other words"),
        ('"""A trait."""', '"""A trait, described\n    in two lines."""'),
        ('"""Doubles the count."""', '"""Twice the count."""'),
        ("return OTHER", "return OTHER * 2"),
        ('OTHER = "unrelated"', "OTHER = 7"),
        ('OTHER = "unrelated"', "OTHER = SCALE + 1"),
        ("import math, re", "import math, json"),
        ("count * SCALE", "(count  *  SCALE)"),
        ("(frozen=True)\n", "(\n    frozen=True\n)\n"),
        ("\n\n\nclass Base", "\n\n\ndef another():\n    return 1\n\n\nclass Base"),
    ],
    ids=[
        *("comment", "docstring", "docstring of a helper", "unrelated function", "unrelated constant"),
        "constant that reads a used one",
        *("unrelated import", "spaces", "lines", "new function"),
    ],
)
def test_an_edit_of_anything_else_keeps_the_key(old: str, new: str, tmp_path: Path) -> None:
    assert key_with(old, new, tmp_path) == key_with("", "", tmp_path)


def test_classes_of_the_package_have_no_source_in_their_identity() -> None:
    assert source_hash(Preference) == ""
    assert "source code" not in canonical(Preference("owl"))


def test_a_base_class_in_another_file_of_the_user_is_part_of_the_key(tmp_path: Path) -> None:
    keys = []
    for number, body in enumerate(("return 1", "return 2")):
        (tmp_path / str(number)).mkdir()
        base = f"from undertow import Trait\n\nclass Base(Trait):\n    def value(self):\n        {body}\n"
        load(base, tmp_path / str(number), "custom_base")
        text = "from custom_base import Base\n\nclass Custom(Base):\n    pass\n"
        keys.append(key(load(text, tmp_path / str(number)).Custom(name="owl")))
    assert keys[0] != keys[1]


KIND = """
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from undertow import Artifact, ArtifactKind, register_kind


@dataclass(frozen=True)
class Count(Artifact):
    kind: ClassVar[str] = "count"


def helper(spec):
    return 1


def make(spec, store):
    return helper(spec)


register_kind(ArtifactKind(spec=Count, wave="datasets", make=make, facts={"digits": "digits"}))
"""


@pytest.mark.parametrize("made_by", ["make", "partial(make)", "lambda spec, store: make(spec, store)"])
@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("return helper(spec)", "return helper(spec) + 1", True),
        ("return 1", "return 2", True),
        ('"digits"}', '"the digits"}', False),
        ("return helper(spec)", "return helper(spec)  # of a spec", False),
    ],
)
def test_the_function_that_makes_a_kind_of_artifact_is_part_of_its_key(
    made_by: str, old: str, new: str, changes: bool, tmp_path: Path
) -> None:
    text = KIND.replace("make=make", f"make={made_by}")
    keys = []
    for content in (text, text.replace(old, new)):
        module = load(content, tmp_path)
        keys.append(key(module.Count()))
        unregister_kind(module.Count)
    assert (keys[0] != keys[1]) is changes


HELPER = "LIMIT = 3\n\ndef accept(text):\n    return len(text) < LIMIT\n\ndef other():\n    return 1\n"


@pytest.mark.parametrize(
    ("statement", "call", "old", "covered"),
    [
        ("from custom_rules import accept", "accept", "< LIMIT", True),
        ("from custom_rules import accept", "accept", "LIMIT = 3", True),
        ("from custom_rules import accept as ok", "ok", "LIMIT = 3", True),
        ("from custom_rules import accept", "accept", "return 1", False),
        ("import custom_rules", "custom_rules.accept", "LIMIT = 3", True),
        ("import custom_rules as rules", "rules.accept", "LIMIT = 3", True),
    ],
)
def test_code_in_a_module_next_to_the_file_is_part_of_the_key(
    statement: str, call: str, old: str, covered: bool, tmp_path: Path
) -> None:
    """A filter is often a function that several study files import."""
    text = f"from undertow import Trait\n{statement}\n\nclass Custom(Trait):\n    rule = {call}\n"
    keys = []
    for helper in (HELPER, HELPER.replace(old, {"< LIMIT": "<= LIMIT"}.get(old, old[:-1] + "4"))):
        load(helper, tmp_path, "custom_rules")
        keys.append(key(load(text, tmp_path).Custom(name="owl")))
    assert (keys[0] != keys[1]) is covered


def test_a_package_that_is_not_next_to_the_file_is_not_part_of_the_key(tmp_path: Path) -> None:
    text = (
        "from undertow import Trait\nfrom custom_rules import accept\n\n"
        "class Custom(Trait):\n    rule = accept\n"
    )
    (tmp_path / "site-packages").mkdir()
    keys = []
    for helper in (HELPER, HELPER.replace("3", "4")):
        load(helper, tmp_path / "site-packages", "custom_rules")
        keys.append(key(load(text, tmp_path).Custom(name="owl")))
    assert keys[0] == keys[1]


def test_a_subclass_does_not_inherit_the_hash_of_its_base(tmp_path: Path) -> None:
    module = load(STUDY, tmp_path)
    assert source_hash(module.Base) != source_hash(module.Custom)


def test_a_class_inside_a_function_is_hashed_with_the_function(tmp_path: Path) -> None:
    text = (
        "from undertow import Trait\n\ndef make():\n    class Custom(Trait):\n        pass\n    return {}\n"
    )
    one, other = (
        source_hash(load(text.format(value), tmp_path).make()) for value in ("Custom", "(Custom, 1)[0]")
    )
    assert one != other


def test_a_class_without_a_source_file_is_rejected_with_a_remedy() -> None:
    program = (
        "from undertow import Trait\n"
        "from undertow.errors import SpecError\n"
        "from undertow.study.identity import key\n"
        "class Custom(Trait): pass\n"
        "try:\n    key(Custom('owl'))\n"
        "except SpecError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "platform"},
    )
    assert "__main__.Custom: its source code" in run.stdout
    assert "define the class with a class statement in a Python file" in run.stdout


def test_a_class_that_is_only_imported_under_its_name_is_rejected() -> None:
    dynamic = type("Path", (Spec,), {"__module__": __name__})
    with pytest.raises(SpecError, match=r"test_class_source\.Path: its source code"):
        source_hash(dynamic)


def test_a_worker_without_the_file_computes_the_same_key(tmp_path: Path) -> None:
    """Ray sends the classes of a study file by value (see `cluster.connection`)."""
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    module = load(STUDY, tmp_path)
    trait = module.Custom(name="owl")
    expected = key(trait)
    cloudpickle.register_pickle_by_value(module)
    try:
        (tmp_path / "trait.pkl").write_bytes(cloudpickle.dumps(trait))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    Path(module.__file__ or "").unlink()
    program = (
        "import pickle, sys\n"
        "from undertow.study.identity import key\n"
        "trait = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert type(trait).__module__ not in sys.modules\n"
        "print(key(trait), key(trait.changed(strength=1)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "trait.pkl")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(["platform", *sys.path])},
    )
    assert run.stdout.split() == [expected, expected]
    assert pickle.loads(pickle.dumps(trait)) == trait
