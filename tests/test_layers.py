"""The house stands on its floors: who may import whom, read from the source and checked at run time.

A new module needs a floor in FLOORS: the lowest that is not below anything it imports. Packages count as
one room; inside a room, and between rooms of one floor, imports may go either way but never in a circle.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "platform" / "undertow"

FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "errors fields packs redaction statistics api machine",
        "recipe recipes kinds spec engines chat hypotheses harness templates sandbox",
        "identity study conditions grids tables formats traits training files",
        "store manifest",
        "plan cells sizes timings costs work report journal judging nano scales theory runs tracking "
        "progress studies claims upkeep",
        "cluster stages door detection",
        "sweep waves making telling",
        "jobs",
    )
)
HEAVY = frozenset({"ray", "torch", "vllm", "transformers", "deepspeed", "mlflow"})
LIGHT = frozenset(
    (
        "errors",
        "fields",
        "packs",
        "api",
        "chat",
        "templates",
        "sandbox",
        "hypotheses",
        "recipe",
        "recipes",
        "kinds",
        "spec",
        "identity",
        "study",
        "conditions",
        "grids",
        "formats",
        "traits",
        "statistics",
        "cells",
        "plan",
        "timings",
        "sizes",
        "costs",
        "work",
    )
)
KNOWS_RAY = frozenset({"cluster", "stages", "making"})


class Import(NamedTuple):
    importer: str
    imported: str
    line: int
    lazy: bool


def room(module: str) -> str:
    """ "undertow.stages.dataset" is in "stages", "jobs.sweep" in "jobs", "ray.data" in "ray"."""
    parts = module.split(".")
    return parts[1] if parts[0] == "undertow" and len(parts) > 1 else parts[0]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package and every script of jobs/, by dotted name."""
    paths = [*SOURCE.rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]
    base = {path: ROOT if (ROOT / "jobs") in path.parents else SOURCE.parent for path in paths}
    names = {path: ".".join(path.relative_to(base[path]).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in sorted(names.items())}


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for name, path in modules().items() for found in imports_of(name, path))


def imports_of(name: str, path: Path) -> Iterator[Import]:
    """The imports of a file; lazy ones stand in a function, those for type checkers are left out."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while todo:
        node, lazy = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += [(child, lazy) for child in node.orelse]
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in targets(node, name, path):
                yield Import(name, target, node.lineno, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        todo += [(child, lazy) for child in ast.iter_child_nodes(node)]


def targets(node: ast.Import | ast.ImportFrom, name: str, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    source = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        whole = f"{source}.{alias.name}"
        yield whole if whole in modules() else source


def floor(name: str) -> int | None:
    return next((i for i, rooms in enumerate(FLOORS) if room(name) in rooms), None)


def is_ours(name: str) -> bool:
    return name.split(".")[0] in ("undertow", "jobs")


def listed(found: Iterable[Import]) -> list[str]:
    return [f"{i.importer}:{i.line} imports {i.imported}" for i in found]


def test_the_walk_finds_what_there_is() -> None:
    assert {"undertow.spec", "undertow.formats", "undertow.formats.numbers"} <= set(modules())
    assert (
        Import("undertow.identity", "undertow.fields", line_of("identity", "from undertow.fields"), False)
        in imports()
    )
    lazy = {i.imported for i in imports() if i.lazy and i.importer == "undertow.statistics.ttests"}
    assert lazy == {"scipy.stats"}


def line_of(module: str, start: str) -> int:
    lines = (SOURCE / f"{module}.py").read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.startswith(start))


def test_every_module_has_one_floor() -> None:
    rooms = [name for names in FLOORS for name in names]
    assert len(set(rooms)) == len(rooms)
    without = {name for name in modules() if name != "undertow" and floor(name) is None}
    assert without == set(), "give them a floor in FLOORS"


def test_no_import_runs_up() -> None:
    ours = [i for i in imports() if is_ours(i.imported) and "undertow" not in (i.importer, i.imported)]
    assert listed(i for i in ours if (floor(i.imported) or 0) > (floor(i.importer) or 0)) == []


def test_nothing_imports_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in imports():
        if found.imported in graph:
            graph[found.importer].add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_light_rooms_import_nothing_heavy() -> None:
    assert listed(i for i in imports() if room(i.importer) in LIGHT and room(i.imported) in HEAVY) == []


def test_only_stages_and_sweep_know_ray() -> None:
    knowing = [i for i in imports() if room(i.imported) == "ray"]
    assert listed(i for i in knowing if room(i.importer) not in KNOWS_RAY) == []


def test_formats_and_traits_stand_on_the_nouns_alone() -> None:
    allowed = {"kinds", "spec", "fields", "identity", "errors", "packs", "tables"}
    ours = [i for i in imports() if room(i.importer) in ("formats", "traits") and is_ours(i.imported)]
    assert listed(i for i in ours if room(i.imported) not in {*allowed, room(i.importer)}) == []


def run(program: str, *flags: str) -> str:
    """What a fresh interpreter prints in the repository's root."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_plan_loads_nothing_heavy_at_run_time() -> None:
    """By import and by what follows from it: `--plan` answers at once."""
    also = ("undertow.sweep", "jobs.sweep", "jobs.detect", "undertow.judging.judges")
    wanted = [name for name in modules() if room(name) in LIGHT or name in also]
    unwanted = sorted({*HEAVY, "scipy", "statsmodels", "pandas", "openai", "stamina"})
    program = (
        f"import sys; sys.path[:0] = ['platform', '.']\nfor name in {wanted}: __import__(name)\n"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    assert run(program) == "[]"


def test_the_folder_platform_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert run("import platform; print(platform.python_implementation())")
