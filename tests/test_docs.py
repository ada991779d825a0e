"""README and docs/ name only commands, flags, studies, paths, links and imports that exist."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import undertow
from undertow.tracking.names import TAGS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES, MOST_CHARACTERS = 90, 100  # of README.md

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?:^|[\s(&|;])((?:\S*/)?python[\d.]* \S.*|make [a-z].*)$")
ASSIGNMENT = re.compile(r"([A-Z_]+)=(.*)", re.DOTALL)
PATHS = re.compile(r"(?:platform|jobs|tests|benchmarks|docs|\.ci|\.github)(?:/[\w.*-]*)+")
FILES = re.compile(r"(?:Makefile|[\w.-]+\.(?:toml|cff)|cluster\.yaml|\.pre-commit-config\.yaml)")
MODULE = re.compile(r"undertow(?:\.\w+)+")
SHIPPED_STUDY = re.compile(r"[a-z][a-z_0-9]*")  # other values of --study are files or placeholders


def problems(text: str, folder: Path = ROOT) -> list[str]:
    """What a page of Markdown in `folder` names that does not exist, one line per occurrence."""
    prose, python, shell = parts(text)
    spans = SPAN.findall(prose)
    found = [
        *links(prose, folder),
        *(line for command in commands([*shell, *spans]) for line in check_command(command)),
        *(line for span in spans for line in check_span(span)),
        *(line for block in python for line in check_python(block)),
    ]
    return list(found)


def parts(text: str) -> tuple[str, list[str], list[str]]:
    """The prose of a page, its Python blocks, and the lines of its other blocks with continuations joined."""
    prose: list[str] = []
    python: list[str] = []
    shell: list[str] = []
    fence, block, before = "", list[str](), ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            if fence:
                if fence == "python":
                    python.append("\n".join(block))
                else:
                    shell += block
            fence = "" if fence else (line.strip().removeprefix("```") or "text")
            block = []
        elif fence:
            block.append(line)
        elif line.startswith("    ") and (not before.strip() or before.startswith("    ")):
            shell.append(line)
        else:
            prose.append(line)
        before = line
    assert not fence, "a fenced block is not closed"
    return "\n".join(prose), python, "\n".join(shell).replace("\\\n", " ").splitlines()


def links(prose: str, folder: Path) -> Iterator[str]:
    """Relative links to files or headings that do not exist."""
    for match in LINK.finditer(prose):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        page = (folder / path).resolve() if path else None
        if page is not None and not page.exists():
            yield f"link {target}: no such file"
        elif anchor and anchor not in anchors(prose if page is None else page.read_text(encoding="utf-8")):
            yield f"link {target}: no such heading"


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(texts: list[str]) -> Iterator[list[str]]:
    """The words of each call of make or Python, without comments."""
    for text in texts:
        if match := COMMAND.search(re.sub(r"(?:^|\s)#.*$", "", text).rstrip()):
            yield shlex.split(match[1])


def check_command(words: list[str]) -> Iterator[str]:
    name, *rest = words
    if name == "make":
        yield from check_make(rest)
    elif rest[0] == "-m":
        module = rest[1].replace(".", "/")
        is_package = (ROOT / module).is_dir()
        yield from check_flags(f"{module}/__main__.py" if is_package else f"{module}.py", rest[2:])
    elif rest[0].endswith(".py"):
        yield from check_flags(rest[0], rest[1:])


def check_make(words: list[str]) -> Iterator[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
    for target in targets:
        if not re.search(rf"^{target}:", makefile, re.MULTILINE):
            yield f"make {target}: no such target"
            return
    for name, value in (match.groups() for word in words if (match := ASSIGNMENT.fullmatch(word))):
        if name not in makefile:
            yield f"make {name}=…: the Makefile does not use it"
        recipe = re.search(rf"^{targets[0]}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
        called = recipe and re.search(r"python (-m )?(\S+)", recipe[1])
        if name == "ARGS" and called:
            script = f"{called[2].replace('.', '/')}/__main__.py" if called[1] else called[2]
            yield from check_flags(script, shlex.split(value))


def check_flags(script: str, words: list[str]) -> Iterator[str]:
    """The flags and the study of one call; scripts and studies of the reader's own are not checked."""
    if not (ROOT / script).is_file():
        yield f"python {script}: no such file"
        return
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in flags(script):
            yield f"python {script} {word}: no such flag"
    for flag, value in pairwise(words):
        is_shipped = flag == "--study" and SHIPPED_STUDY.fullmatch(value)
        if is_shipped and not (ROOT / "jobs" / "studies" / f"{value}.py").is_file():
            yield f"--study {value}: no such study"


@cache
def flags(script: str) -> frozenset[str]:
    """The flags of a script: what --help prints for jobs/, otherwise the fields and texts of its source."""
    path = ROOT / script
    if path.parent.name == "jobs":
        output = subprocess.run(
            [sys.executable, str(path), "--help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        return frozenset(re.findall(r"--[a-z][a-z-]*", output))
    source = path.read_text(encoding="utf-8")
    fields = re.findall(r"^ +(\w+): ", source, re.MULTILINE)
    return frozenset(re.findall(r"--[a-z][a-z-]*", source)) | {f"--{f.replace('_', '-')}" for f in fields}


def check_span(span: str) -> Iterator[str]:
    """A path of the repository or a module of the package, in backticks."""
    if PATHS.fullmatch(span) or FILES.fullmatch(span):
        if not any(ROOT.glob(span.rstrip("/"))):
            yield f"`{span}`: no such path"
    elif MODULE.fullmatch(span) and span not in TAGS and not resolves(span):
        yield f"`{span}`: no such module or name"


def check_python(block: str) -> Iterator[str]:
    """Errors of syntax, and names that cannot be imported from the package."""
    try:
        tree = ast.parse(block)
    except SyntaxError as error:
        yield f"Python block, line {error.lineno}: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "undertow":
            for alias in node.names:
                if not resolves(f"{node.module}.{alias.name}"):
                    yield f"from {node.module} import {alias.name}: no such name"


def resolves(dotted: str) -> bool:
    """Whether a dotted name of the package is a module, or a name in one; nothing is imported for it."""
    *parents, last = dotted.split(".")[1:]
    base = ROOT / "platform" / "undertow"
    if not parents and last in undertow.__all__:
        return True
    if base.joinpath(*parents, last).is_dir() or base.joinpath(*parents, f"{last}.py").is_file():
        return True
    for file in (base.joinpath(*parents).with_suffix(".py"), base.joinpath(*parents, "__init__.py")):
        if file.is_file():
            return re.search(rf"\b{last}\b", file.read_text(encoding="utf-8")) is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_what_exists(page: Path) -> None:
    assert problems(page.read_text(encoding="utf-8"), page.parent) == []


GOOD = """\
See [the index](docs/README.md), [a heading](docs/architecture.md#how-to-add-an-extension)
and `jobs/studies/owls.py`.

    make sweep STORAGE=/data ARGS="--study owls --plan"     # a comment with --nothing
    ray job submit -- \\
        python jobs/sweep.py --study owls --storage s3://BUCKET/undertow

```python
from undertow import Study
```
"""


def test_a_correct_page_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("[page](docs/nowhere.md)", "link docs/nowhere.md: no such file"),
        ("[page](docs/README.md#nowhere)", "link docs/README.md#nowhere: no such heading"),
        ('<img src="docs/nothing.svg">', "link docs/nothing.svg: no such file"),
        ("    make swep", "make swep: no such target"),
        ("Use `make swep` for it.", "make swep: no such target"),
        ("    make sweep SRORAGE=/data", "make SRORAGE=…: the Makefile does not use it"),
        ('    make sweep ARGS="--stduy owls"', "python jobs/sweep.py --stduy: no such flag"),
        ('    make chaos ARGS="--kill 3"', "python tests/chaos/__main__.py --kill: no such flag"),
        ("    python jobs/swep.py", "python jobs/swep.py: no such file"),
        ("    python jobs/sweep.py --sedes 3", "python jobs/sweep.py --sedes: no such flag"),
        ("    .venv/bin/python jobs/power.py --efect 1", "python jobs/power.py --efect: no such flag"),
        ("```\npython jobs/sweep.py --study owl\n```", "--study owl: no such study"),
        ("    x -- \\\n        python jobs/nothing.py", "python jobs/nothing.py: no such file"),
        ("`platform/undertow/nothing.py`", "`platform/undertow/nothing.py`: no such path"),
        ("`tests/nowhere/`", "`tests/nowhere/`: no such path"),
        ("`setup.cff`", "`setup.cff`: no such path"),
        ("`undertow.nothing.at_all`", "`undertow.nothing.at_all`: no such module or name"),
        ("```python\ndef study(:\n```", "Python block, line 1: invalid syntax"),
        ("```python\nfrom undertow import Nothing\n```", "from undertow import Nothing: no such name"),
    ],
)
def test_a_name_that_does_not_exist_is_found(page: str, problem: str) -> None:
    assert problems(page) == [problem]


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {match[1] for match in LINK.finditer(index)}
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"} <= linked


def test_the_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    free = ("|", "[", "![")  # rows of tables, and links
    assert [line for line in lines if len(line) > MOST_CHARACTERS and not line.startswith(free)] == []


def test_the_tables_of_moves_name_existing_modules_and_names() -> None:
    table = (ROOT / "docs" / "moved-names.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| ((?:`[\w.]+`(?:, )?)+) \|$", table, re.MULTILINE)
    assert len(rows) > 50
    new = [module for _, cell in rows for module in re.findall(r"`([\w.]+)`", cell)]
    renamed = re.findall(r"^\| `([\w.]+)` \| `\w+` \| `(\w+)` \|$", table, re.MULTILINE)
    assert len(renamed) > 50
    new += [f"{module}.{name}" for module, name in renamed]
    assert [name for name in new if not resolves(f"undertow.{name}")] == []
