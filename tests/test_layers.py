"""The order of the package's folders: who may import whom, read from the source and checked at run time."""

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

# From the top down. A file imports only from its own folder and from folders in rows below its own;
# the folders of one row do not import each other.
ORDER = (
    "cli",
    "presets",
    "sweep",
    "detection auditing harness",
    "report",
    "archive",
    "stages",
    "cluster",
    "tracking",
    "results",
    "planning",
    "theory",
    "nano",
    "judging",
    "storage",
    "training",
    "engines",
    "api",
    "statistics",
    "traits formats",
    "prompts",
    "study",
)
ROW = {folder: row for row, folders in enumerate(ORDER) for folder in folders.split()}
LOOSE = {"__init__", "errors"}  # the only files that stand outside of a folder

HEAVY = {"ray", "torch", "vllm", "transformers", "deepspeed", "mlflow"}
LIGHT = {"study", "prompts", "traits", "formats", "statistics", "api", "planning", "presets"}
MAY_IMPORT = {  # the folders that may import a library, lazily or not
    "ray": {"cluster", "stages", "sweep", "harness"},
    "mlflow": {"tracking"},
    "lm_eval": {"harness"},
}


class Import(NamedTuple):
    importer: str
    imported: str
    line: int
    lazy: bool


def folder_of(module: str) -> str:
    """ "undertow.stages.dataset" → "stages", "undertow.errors" → "errors", "ray.data" → "ray"."""
    parts = module.split(".")
    return parts[1] if parts[0] == "undertow" and len(parts) > 1 else parts[0]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by dotted name."""
    paths = {path: path.relative_to(SOURCE.parent).with_suffix("") for path in sorted(SOURCE.rglob("*.py"))}
    return {".".join(dotted.parts).removesuffix(".__init__"): path for path, dotted in paths.items()}


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for name, path in modules().items() for found in imports_of(name, path))


def imports_of(name: str, path: Path) -> Iterator[Import]:
    """The imports of one file, also those inside functions (lazy); imports for type checkers are left out."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while todo:
        node, lazy = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += [(child, lazy) for child in node.orelse]
            continue
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield Import(name, whole if whole in modules() else str(node.module), node.lineno, lazy)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        todo += [(child, lazy) for child in ast.iter_child_nodes(node)]


def shown(found: Iterable[Import]) -> list[str]:
    return [f"{i.importer}:{i.line} imports {i.imported}" for i in found]


def points_up(found: Import) -> bool:
    importer, imported = folder_of(found.importer), folder_of(found.imported)
    if importer not in ROW or imported not in ROW or importer == imported:
        return False
    return ROW[imported] <= ROW[importer]


def test_the_parser_finds_eager_and_lazy_imports() -> None:
    found = {(i.imported, i.lazy) for i in imports() if i.importer == "undertow.statistics.ttests"}
    assert ("scipy.stats", True) in found
    assert ("undertow.study.fields", False) in {
        (i.imported, i.lazy) for i in imports() if i.importer == "undertow.study.identity"
    }


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("undertow.stages.dataset", "undertow.study.datasets", False),
        ("undertow.study.datasets", "undertow.stages.dataset", True),
        ("undertow.stages.dataset", "undertow.stages.filters", False),
        ("undertow.detection.make", "undertow.harness.stage", True),
        ("undertow.study.datasets", "undertow.errors", False),
    ],
)
def test_an_upward_import_is_recognised(importer: str, imported: str, expected: bool) -> None:
    assert points_up(Import(importer, imported, 1, False)) is expected


def test_every_folder_has_a_row() -> None:
    folders = {folder_of(name) for name, path in modules().items() if path.parent != SOURCE}
    assert folders <= ROW.keys()
    assert {path.stem for path in modules().values() if path.parent == SOURCE} == LOOSE


def test_no_import_points_up() -> None:
    assert shown(i for i in imports() if points_up(i)) == []


def test_nothing_imports_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in imports():
        if found.imported in graph:
            graph[found.importer].add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_light_folders_import_nothing_heavy() -> None:
    assert (
        shown(i for i in imports() if folder_of(i.importer) in LIGHT and folder_of(i.imported) in HEAVY) == []
    )


@pytest.mark.parametrize(("library", "folders"), MAY_IMPORT.items())
def test_a_library_is_imported_in_its_folders_alone(library: str, folders: set[str]) -> None:
    users = [i for i in imports() if folder_of(i.imported) == library]
    assert shown(i for i in users if folder_of(i.importer) not in folders) == []


def run(program: str, *flags: str) -> str:
    """The output of a fresh interpreter in the repository's root."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_plan_loads_nothing_heavy_at_run_time() -> None:
    """`--plan` answers in about a second, so neither it nor what it imports may load these libraries."""
    scripts = ("sweep", "search", "detect", "audit")
    also = (*(f"undertow.cli.{script}" for script in scripts), "undertow.judging.judges")
    wanted = [name for name in modules() if folder_of(name) in LIGHT or name in also]
    unwanted = sorted({*HEAVY, "scipy", "statsmodels", "pandas", "openai", "stamina"})
    program = (
        f"import sys; sys.path[:0] = ['platform', '.']\nfor name in {wanted}: __import__(name)\n"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    assert run(program) == "[]"


def test_the_folder_platform_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert run("import platform; print(platform.python_implementation())")
