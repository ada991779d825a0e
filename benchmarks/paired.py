"""What the speed benchmarks share: paired runs in processes of their own, ratios, and files of results.

A benchmark runs all sides of a comparison in one call, alternately, so that a busy machine slows all of them.
Each side is measured in a new process (`in_process`, `run`), because imports and starts of engines are
part of many questions. Ratios are those of the runs of one round, and their median is reported.

A results file has the goal and the ceiling from the script's docstring, the figures, every single run, the
command, the hardware and the versions. Only `publish` writes it, from the runs of the same call.
"""

import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEFORE = "2df8677"  # the commit that "before" stands for in all results
ANSWER = "measured: "  # begins the line by which a side's process returns its figures
LOAD = os.getloadavg()[0]  # before anything was measured
ALSO = ("trl",)  # packages whose versions are shown if they are installed
# Flags that are no part of the reported command.
INTERNAL = ("--out", "--side", "--folder", "--storage", "--log", "--calibration", "--processes")

Figures = dict[str, float]  # of one run of one side, by name
Runs = dict[str, list[Figures]]  # by side, in the order of the rounds


@dataclass(frozen=True)
class PairedArguments:
    """The arguments that all paired benchmarks have."""

    repeats: int = 3
    """Rounds; every round runs every side once."""
    out: Path | None = None
    """Markdown file for the results, such as benchmarks/results/NAME.md."""
    side: str = ""
    """Measure one side in this process. The script calls itself with it."""
    folder: Path = Path()
    """Files that the sides share. The script calls itself with it."""


def alternate(sides: Mapping[str, Callable[[], Figures]], repeats: int) -> Runs:
    """Calls every side once per round. Every second round has the reverse order, and each run one line."""
    runs: Runs = {name: [] for name in sides}
    for number in range(repeats):
        names = list(sides)
        for name in names if number % 2 == 0 else reversed(names):
            figures = sides[name]()
            runs[name].append(figures)
            shown = ", ".join(f"{what} {number_text(value)}" for what, value in figures.items())
            print(f"round {number + 1}, {name}: {shown}", file=sys.stderr, flush=True)
    return runs


def median(runs: Runs, side: str, figure: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(run[figure] for run in runs[side])


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} … {self.high:.2f})"


def ratio(runs: Runs, figure: str, over: str, under: str) -> Ratio:
    """`over`'s figure divided by `under`'s, for the runs of the same round."""
    values = [a[figure] / b[figure] for a, b in zip(runs[over], runs[under], strict=True)]
    return Ratio(statistics.median(values), min(values), max(values))


def marginal(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """How much more one further unit costs in the upper part of the sizes than in the lower part.

    1 for linear growth, whatever the fixed cost. The middle size divides the parts.
    """
    middle = len(sizes) // 2
    if not 0 < middle < len(sizes) - 1:
        raise ValueError(f"sizes {sizes}: at least three are needed")
    low, high = (
        (seconds[end] - seconds[start]) / (sizes[end] - sizes[start])
        for start, end in ((0, middle), (middle, -1))
    )
    return high / low


def number_text(value: float) -> str:
    """A number with three significant digits, or all digits before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def goal(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


def answer(figures: Figures) -> None:
    """Returns a side's figures to the process that called `in_process`."""
    print(f"{ANSWER}{json.dumps(figures)}", flush=True)


def in_process(side: str, *words: str, environment: Mapping[str, str] | None = None) -> Figures:
    """Measures one side in a new process: this script with the same arguments, `words` and --side.

    The process's own wall-clock seconds are added as "process seconds".
    """
    start = time.perf_counter()
    command = [sys.executable, sys.argv[0], *sys.argv[1:], *words, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode or not answers:
        raise SystemExit(f"{side}: exit code {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    figures: Figures = json.loads(answers[-1].removeprefix(ANSWER))
    return figures | {"process seconds": seconds}


@dataclass(frozen=True)
class Finished:
    """A program that ended.

    Attributes:
        core_seconds: processor time of the program and of all processes that it waited for.
        peak_gb: the largest memory of any one of these processes.
        output: of stdout and stderr.
    """

    seconds: float
    core_seconds: float
    peak_gb: float
    output: str


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    while_running: Callable[[], None] = lambda: None,
) -> Finished:
    """Runs a program and measures it. Raises SystemExit with its last output if it fails.

    Args:
        while_running: called every 10 ms.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        words = [str(word) for word in command]
        process = subprocess.Popen(words, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
        ended, status = 0, 0
        usage: resource.struct_rusage | None = None
        try:
            while not ended:
                # Not `Popen.wait`: only wait4 returns the processor time and memory of this one child.
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                if not ended:
                    while_running()
                    time.sleep(0.01)
        finally:
            if not ended:  # an interrupt: what goes on would disturb the next measurement
                process.terminate()
                process.wait()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode or usage is None:
        raise SystemExit(f"{shlex.join(words)}: exit code {process.returncode}\n{text[-3000:]}")
    return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, text)


@contextmanager
def checkout(commit: str = BEFORE) -> Iterator[Path]:
    """Context manager: a temporary folder with the repository at a commit."""

    def git(*words: str) -> None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"git {shlex.join(words)}: {done.stderr.strip()}; a complete clone is needed")

    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        place = Path(folder) / commit
        git("worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            yield place
        finally:
            git("worktree", "remove", "--force", str(place))


def environment_of(tree: Path) -> dict[str, str]:
    """The environment variables with which programs of a checkout import its own packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {
        "PYTHONPATH": f"{tree / 'platform'}:{tree}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    """Processor, cores, memory and system of this machine, and the load before the first run."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = next((line.split(":")[1].strip() for line in cpus.splitlines() if "model name" in line), "CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{name}, {cores()} cores, {memory:.0f} GB of memory, {platform.system()} {platform.release()}; "
        f"load {LOAD:.2f} before the first run"
    )


def command() -> str:
    """The command of this call, without flags that do not affect the figures."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if not skip and word.partition("=")[0] not in INTERNAL:
            words.append(word)
        skip = not skip and word in INTERNAL
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


@dataclass(frozen=True)
class Table:
    """A table of a results file; all cells are text."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        head = [f"## {self.title}", "", f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in self.rows), ""])


def table_of_runs(runs: Runs, title: str = "Every run") -> Table:
    """The figures of every run, by side and in the order of the rounds."""
    rows = [
        [side, str(number + 1), ", ".join(f"{what} {number_text(value)}" for what, value in figures.items())]
        for side, of_side in runs.items()
        for number, figures in enumerate(of_side)
    ]
    return Table(title, ("side", "round", "figures"), rows)


def software() -> str:
    """The versions of Python, of the libraries and of this package."""
    from undertow.storage.manifest import versions

    found = versions() | {name: version(name) for name in ALSO if find_spec(name)}
    return ", ".join(f"{name} {number}" for name, number in found.items())


def markdown(docstring: str, tables: Sequence[Table]) -> str:
    """The text of a results file: the docstring without its commands, the tables, and how it was measured."""
    title, *paragraphs = (part for part in docstring.strip().split("\n\n") if not part.startswith("    "))
    measured = [
        f"- Command: `{command()}`, {time.strftime('%d %B %Y', time.gmtime())}",
        f"- Machine: {machine()}",
        f"- Versions: {software()}",
    ]
    heading = f"# {' '.join(title.split()).rstrip('.')}"
    shown = [table.markdown().rstrip() for table in tables]
    parts = [heading, *paragraphs, *shown, "## Measured with", "\n".join(measured)]
    return "\n\n".join(parts) + "\n"


def publish(docstring: str | None, tables: Sequence[Table], out: Path | None) -> None:
    """Prints the tables, and writes the results file if a path was given."""
    for table in tables:
        print(f"\n{table.title}\n  {' | '.join(table.columns)}")
        for row in table.rows:
            print(f"  {' | '.join(row)}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(markdown(docstring or "", tables), encoding="utf-8")
