"""How long does the set-up take, how large is the environment, and how long does `--plan` take to start?

    python benchmarks/environment.py --out benchmarks/results/environment.md
    python benchmarks/environment.py --no-setup                                 only the start of --plan

Compared with commit 2df8677. The set-up is `platform/bootstrap.py` in a new checkout of each version, with
whatever the cache of pip has, so that the second of the two may find more in it: the order alternates over
--setup-rounds. Both environments are deleted. A plan is that of the default study on an empty storage, by the
interpreter and packages of this process, alternately.

Goal: neither slower nor larger than before, and every gigabyte explained.

Ceiling: the set-up is bound by the download and by writing the files; the start of a plan by the import of
tyro, rich and fsspec.
"""

import os
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, distributions
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.paired import Figures, Runs, Table

NO_WORSE = 1.05  # times before; less is not more than the spread of the runs
LARGEST = 15  # packages that have a row of their own
SLOWEST = 12
GB = 2**30


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Measure set-up, size of the environment and start of --plan."""

    repeats: int = 7
    """Rounds of plans."""
    setup: bool = True
    """Also set both versions up from scratch; takes minutes and several GB of disk."""
    setup_rounds: int = 2
    """Rounds of set-ups."""


def plan(tree: Path, storage: Path) -> Figures:
    """Seconds of the default study's plan, and the largest memory."""
    command = (sys.executable, "jobs/sweep.py", "--plan", "--storage", storage)
    done = paired.run(command, cwd=tree, environment=paired.environment_of(tree))
    return {"plan, s": done.seconds, "core-seconds": done.core_seconds, "GB": done.peak_gb}


def imported(tree: Path, storage: Path) -> dict[str, float]:
    """Milliseconds of importing by package, for a plan of the default study."""
    command = (sys.executable, "-X", "importtime", "jobs/sweep.py", "--plan", "--storage", storage)
    done = paired.run(command, cwd=tree, environment=paired.environment_of(tree))
    return by_package(done.output)


def by_package(log: str) -> dict[str, float]:
    """Milliseconds by top-level package in the output of `-X importtime`; each module counts once."""
    found: defaultdict[str, float] = defaultdict(float)
    for own, module in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", log, re.MULTILINE):
        found[module.split(".")[0]] += int(own) / 1000
    return dict(found)


def set_up(commit: str) -> Figures:
    """Sets a new checkout of a commit up; returns the seconds and the size of its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with paired.checkout(commit) as tree:
        done = paired.run((sys.executable, "platform/bootstrap.py"), cwd=tree, environment=environment)
        size = sum(folder_sizes(tree / ".venv").values())
    return {"set-up, s": done.seconds, "environment, GB": size / GB}


def folder_sizes(folder: Path) -> dict[Path, int]:
    """The size of every file below a folder, in bytes; a link counts nothing."""
    return {
        path: path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    }


def package_sizes(environment: Path) -> Counter[str]:
    """Bytes by installed package; compiled modules and files of no package have entries of their own."""
    sizes, found = folder_sizes(environment), Counter[str]()
    (site,) = environment.glob("lib/python3*/site-packages")
    for package in distributions(path=[str(site)]):
        for path in files_of(package):
            if path in sizes and path.suffix != ".pyc":
                found[f"{package.metadata['Name']} {package.version}"] += sizes.pop(path)
    for path, size in sizes.items():
        found["(compiled modules, *.pyc)" if path.suffix == ".pyc" else "(files of no package)"] += size
    return found


def files_of(package: Distribution) -> Iterator[Path]:
    """The paths of an installed package's files, as they are listed in its metadata."""
    for file in package.files or ():
        yield Path(os.path.normpath(str(file.locate())))


def no_worse(runs: Runs, figure: str) -> list[str]:
    """A row with the medians of both versions."""
    now, before = (paired.median(runs, side, figure) for side in ("now", "before"))
    change = paired.ratio(runs, figure, over="now", under="before")
    verdict = f"≤ {NO_WORSE}: {paired.goal(now <= NO_WORSE * before)}"
    return [figure, f"{now:.2f}", f"{before:.2f}", str(change), verdict]


def plans(arguments: Arguments, folder: Path) -> tuple[Runs, Table]:
    """Plans of both versions, and what the present one imports."""
    with paired.checkout() as before:
        trees = {"now": paired.ROOT, "before": before}
        for tree in trees.values():
            plan(tree, folder)  # compiles the modules of a new checkout
        sides = {name: partial(plan, tree, folder) for name, tree in trees.items()}
        runs = paired.alternate(sides, arguments.repeats)
        counts = {name: imported(tree, folder) for name, tree in trees.items()}
    total = sum(counts["now"].values()), sum(counts["before"].values())
    slowest = sorted(counts["now"].items(), key=lambda item: -item[1])[:SLOWEST]
    rows = [[name, f"{ms:.0f}", f"{counts['before'].get(name, 0.0):.0f}"] for name, ms in slowest]
    columns = ("package", "now, ms", "before, ms")
    title = "Imports of a plan, under -X importtime (slower than without)"
    return runs, Table(title, columns, [*rows, ["all", f"{total[0]:.0f}", f"{total[1]:.0f}"]])


def sizes_table(environment: Path) -> Table:
    """The largest packages of an environment; the other rows sum up the rest."""
    sizes = package_sizes(environment)
    total, largest = sum(sizes.values()), sizes.most_common(LARGEST)
    rows = [[name, f"{size / GB:.3f}", f"{size / total:.1%}"] for name, size in largest]
    rest = total - sum(size for _, size in largest)
    rows += [
        [f"{len(sizes) - len(largest)} others", f"{rest / GB:.3f}", f"{rest / total:.1%}"],
        ["all", f"{total / GB:.3f}", "100%"],
    ]
    return Table("Size of the environment", ("package", "GB", "share"), rows)


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        runs, imports = plans(arguments, Path(folder) / "storage")
    rows = [no_worse(runs, figure) for figure in ("plan, s", "core-seconds", "GB")]
    tables, environment = [imports], Path(sys.prefix).resolve()
    if arguments.setup:
        sides = {"now": partial(set_up, "HEAD"), "before": partial(set_up, paired.BEFORE)}
        setups = paired.alternate(sides, arguments.setup_rounds)
        rows += [no_worse(setups, figure) for figure in ("set-up, s", "environment, GB")]
        tables.append(paired.table_of_runs(setups, "Every set-up"))
    tables.insert(0, sizes_table(environment))
    compared = Table("Now and before", ("", "now", "before", "now / before", "goal"), rows)
    paired.publish(__doc__, [compared, *tables, paired.table_of_runs(runs, "Every plan")], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
