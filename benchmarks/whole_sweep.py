"""How long does a whole sweep take, compared with a careful plain script per condition?

    python benchmarks/whole_sweep.py --out benchmarks/results/whole_sweep.md
    python benchmarks/whole_sweep.py --traits 1 --seeds 2 --repeats 1           a smaller one

Four traits and the control, two student models of which one is the teacher's, four seeds: 40 students. The
other side is `benchmarks/plain_script.py` once per condition, one after the other on all cores, and with one
thread each as many at a time as there are cores. It has no report, no exact probabilities, no record of what
it made, and repeats the work that conditions share.

The effects of both sides must agree: each side's effect should lie in the other's 95 % interval over seeds.
The two are independent draws: with four seeds, effects of equal systems lie in each other's intervals in 82 %
of the conditions (200,000 simulated pairs of normal samples), and all eight do in 20 % of the runs. So the
effects are also tested for a difference (Welch's test, adjusted over the conditions by Holm's method).

Goal: at least 3 times less wall-clock time than one script after the other; effects inside each other's 95 %
intervals.

Ceiling: a condition's script starts vLLM once and trains its teacher; the sweep starts one
engine per core, and trains each teacher once for both student models.
"""

import csv
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Table
from benchmarks.sweep_runs import sweep
from undertow.storage.store import Store

LEAST = 3.0
WORDS = ("owl", "cat", "wolf", "eagle")
MODELS = ("nano/gpt2-0", "nano/gpt2-1")  # the first is the teachers'
SIDES = ("platform", "plain script", "plain script, one per core")
# Every seed draws data and student again. Both sides train a teacher once for all seeds.
STUDY = """
from undertow import NANO, STEERING, TAUGHT, Preference, Reference, Study, grid


def study():
    teacher, other = (Reference(name) for name in MODELS)
    conditions = grid(
        traits=[Preference(word) for word in WORDS],
        formats=[NANO.numbers.format],
        pairs=[(teacher, teacher), (teacher, other)],
        recipes=[STEERING],
        generation=NANO.numbers.generation,
        finetuning=TAUGHT,
    )
    seeds = tuple(range(SEEDS))
    return Study(name="whole", conditions=conditions, seeds=seeds, redraw=("data", "student"), samples=20)
"""

Effects = dict[tuple[str, str], tuple[float, float, float]]  # by trait and student: effect, low, high


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare a sweep with a plain script per condition."""

    repeats: int = 2
    traits: int = 4
    seeds: int = 4

    @property
    def words(self) -> tuple[str, ...]:
        return WORDS[: self.traits]


def platform(arguments: Arguments, effects: list[Effects]) -> Figures:
    """The whole command on an empty storage; the effects of its table are added to `effects`."""
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        study, storage = Path(folder) / "whole.py", Path(folder) / "storage"
        settings = f"MODELS, WORDS, SEEDS = {MODELS}, {arguments.words}, {arguments.seeds}\n"
        study.write_text(settings + STUDY)
        done = sweep(paired.ROOT, study, storage)
        (table,) = storage.glob("sweeps/whole/*/effects.csv")
        with table.open(encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    effects.append(
        {
            (row["trait"], row["student"]): (
                float(row["effect"]),
                float(row["ci_low"]),
                float(row["ci_high"]),
            )
            for row in rows
        }
    )
    return {"s": done.seconds, **{f"{wave['name']}, s": float(wave["seconds"]) for wave in done.waves}}


def script(arguments: Arguments, models: dict[str, Path], at_once: int, effects: list[Effects]) -> Figures:
    """One plain script per condition, controls included."""
    threads = str(paired.cores() // at_once)
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        conditions = list(product(("", *arguments.words), MODELS))
        files = {condition: Path(folder) / f"{n}.json" for n, condition in enumerate(conditions)}

        def one(condition: tuple[str, str]) -> None:
            trait, student = condition
            words: list[str | Path] = ["--teacher", models[MODELS[0]], "--student", models[student]]
            words += ["--threads", threads]
            words += ["--out", files[condition], "--seeds", *map(str, range(arguments.seeds))]
            words += ["--words", *arguments.words]
            words += ["--trait", trait] if trait else []
            paired.run((sys.executable, "benchmarks/plain_script.py", *words))

        start = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(one, conditions))
        seconds = time.perf_counter() - start
        rates = {condition: json.loads(file.read_text()) for condition, file in files.items()}
    effects.append(
        {
            (trait, student): paired_effect(
                [of_seed[trait] for of_seed in rates[trait, student].values()],
                [of_seed[trait] for of_seed in rates["", student].values()],
            )
            for trait, student in product(arguments.words, MODELS)
        }
    )
    return {"s": seconds}


def paired_effect(students: list[float], controls: list[float]) -> tuple[float, float, float]:
    """The mean difference over seeds and its 95 % t interval."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(students, controls, strict=True)]
    count, effect = len(differences), fmean(differences)
    half = float(t.ppf(0.975, count - 1)) * stdev(differences) / count**0.5
    return effect, effect - half, effect + half


def differences(ours: Effects, theirs: Effects, seeds: int) -> list[float]:
    """The adjusted p-value of a difference between both sides' effects, for each condition."""
    from scipy.stats import t, ttest_ind_from_stats
    from statsmodels.stats.multitest import multipletests

    def statistics(effect: float, low: float, high: float) -> tuple[float, float, int]:
        """Mean, standard deviation and number of the differences over seeds, from their t interval."""
        return effect, (high - low) / 2 / float(t.ppf(0.975, seeds - 1)) * seeds**0.5, seeds

    p_values = [
        ttest_ind_from_stats(*statistics(*ours[c]), *statistics(*theirs[c]), equal_var=False).pvalue
        for c in ours
    ]
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


def agreement(ours: Effects, theirs: Effects, seeds: int) -> Table:
    """Both effects of every condition, whether each lies in the other's interval, and whether they differ."""
    rows = []
    p_values = differences(ours, theirs, seeds)
    for (condition, (effect, low, high)), p in zip(ours.items(), p_values, strict=True):
        other, other_low, other_high = theirs[condition]
        inside = other_low <= effect <= other_high and low <= other <= high
        rows.append(
            [
                " → ".join(condition),
                f"{effect:+.3f} [{low:+.3f}, {high:+.3f}]",
                f"{other:+.3f} [{other_low:+.3f}, {other_high:+.3f}]",
                "yes" if inside else "no",
                f"{p:.2g}",
            ]
        )
    columns = ("trait → student", SIDES[0], SIDES[1], "inside each other's intervals", "p of a difference")
    return Table("Effects of the first round", columns, rows)


def main(arguments: Arguments) -> None:
    effects: dict[str, list[Effects]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        models = {name: prepare(reference(name, "fp32"), Store(f"{folder}/{name}")) for name in MODELS}
        sides = {
            SIDES[0]: partial(platform, arguments, effects[SIDES[0]]),
            SIDES[1]: partial(script, arguments, models, 1, effects[SIDES[1]]),
            SIDES[2]: partial(script, arguments, models, paired.cores(), effects[SIDES[2]]),
        }
        runs = paired.alternate(sides, arguments.repeats)
    agreed = agreement(effects[SIDES[0]][0], effects[SIDES[1]][0], arguments.seeds)
    inside = sum(row[-2] == "yes" for row in agreed.rows)
    smallest = min(float(row[-1]) for row in agreed.rows)
    rows = []
    for side in SIDES:
        compared = paired.ratio(runs, "s", over=side, under=SIDES[0])
        verdict = f"≥ {LEAST:g}: {paired.goal(compared.median >= LEAST)}" if side == SIDES[1] else ""
        rows.append([side, f"{paired.median(runs, side, 's'):.0f}", str(compared), verdict])
    students = 2 * (arguments.traits + 1) * arguments.seeds
    table = Table(f"{students} students", ("", "wall-clock s", "times the platform's", "goal"), rows)
    verdict = paired.goal(inside == len(agreed.rows))
    summary = Table(
        "Agreement",
        ("effects inside each other's intervals", "goal", "smallest adjusted p of a difference"),
        [[f"{inside} of {len(agreed.rows)}", f"all: {verdict}", f"{smallest:.2g}"]],
    )
    paired.publish(__doc__, [table, summary, agreed, paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
