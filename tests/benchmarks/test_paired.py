"""The shared code of the speed benchmarks: order of the runs, ratios, slopes, measured programs, results."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.stats import ttest_ind

from benchmarks import paired
from benchmarks.environment import by_package
from benchmarks.many_conditions import FIND, STUDY
from benchmarks.paired import Figures, Ratio
from benchmarks.whole_sweep import agreement, differences, paired_effect
from undertow.cli.studies import load


def test_rounds_alternate_the_order_of_the_sides() -> None:
    called: list[str] = []

    def side(name: str) -> Callable[[], Figures]:
        def call() -> Figures:
            called.append(name)
            return {"s": float(len(called))}

        return call

    runs = paired.alternate({name: side(name) for name in ("a", "b")}, repeats=3)
    assert "".join(called) == "abbaab"
    assert runs == {"a": [{"s": 1}, {"s": 4}, {"s": 5}], "b": [{"s": 2}, {"s": 3}, {"s": 6}]}
    assert paired.median(runs, "a", "s") == 4
    assert paired.ratio(runs, "s", over="b", under="a") == Ratio(1.2, 0.75, 2.0)


@pytest.mark.parametrize(
    ("sizes", "seconds", "slope"),
    [
        ((1, 2, 3), (11, 12, 13), 1.0),  # a fixed cost does not matter
        ((1, 10, 100), (1, 10, 100), 1.0),
        ((1, 2, 3), (1, 2, 4), 2.0),
        ((1, 2, 4, 8), (0, 1, 3, 11), 2.0),
    ],
)
def test_the_slope_of_the_upper_sizes_is_relative_to_the_lower_ones(
    sizes: tuple[int, ...], seconds: tuple[float, ...], slope: float
) -> None:
    assert paired.marginal(sizes, seconds) == pytest.approx(slope)


def test_a_slope_needs_three_sizes() -> None:
    with pytest.raises(ValueError, match="at least three"):
        paired.marginal((1, 2), (1.0, 2.0))


def test_a_program_is_measured_with_its_memory_and_processor_time() -> None:
    done = paired.run((sys.executable, "-c", "x = b'1' * 2**28; print(sum(range(10**6)))"))
    assert done.output.strip() == "499999500000"
    assert 0.25 < done.peak_gb < 1
    assert done.core_seconds > 0


def test_a_program_that_fails_ends_the_benchmark_with_its_output() -> None:
    with pytest.raises(SystemExit, match="exit code 3\nlost"):
        paired.run((sys.executable, "-c", "import sys; print('lost'); sys.exit(3)"))


def test_a_results_file_has_goal_figures_and_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "results" / "one.md"
    monkeypatch.setattr(sys, "argv", ["/somewhere/one.py", "--repeats", "2", "--out", str(out)])
    docstring = "How fast?\n\n    python benchmarks/one.py\n\nGoal: faster.\n"
    paired.publish(docstring, [paired.Table("Speed", ("", "s"), [["now", "1"]])], out)
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# How fast?\n\nGoal: faster.\n\n## Speed\n\n|  | s |\n")
    assert "- Command: `python benchmarks/one.py --repeats 2`, " in text
    assert f"python {sys.version.split()[0]}" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.5, "0.5"), (2.5e-7, "2.5e-07")]
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert paired.number_text(value) == text


def test_import_times_are_summed_by_package() -> None:
    log = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1000 |       1000 |   rich.text\n"
        "import time:       500 |       1500 | rich\n"
        "import time:       250 |        250 | re\n"
    )
    assert by_package(log) == {"rich": 1.5, "re": 0.25}


def test_the_study_of_many_conditions_has_as_many_as_it_says(tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(f"RECIPES, SEEDS = 2, 1\n{FIND}{STUDY}")
    assert len(load(str(file), tmp_path).conditions) == 200


def test_effects_agree_if_each_lies_in_the_others_interval() -> None:
    effect, low, high = paired_effect([0.5, 0.6, 0.7], [0.1, 0.1, 0.1])
    assert effect == pytest.approx(0.5)
    assert low + high == pytest.approx(1.0)
    assert high - effect == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    ours = {("owl", "one"): (0.5, 0.4, 0.6), ("cat", "one"): (0.5, 0.4, 0.6)}
    theirs = {("owl", "one"): (0.55, 0.3, 0.8), ("cat", "one"): (0.7, 0.3, 1.1)}
    assert [row[-2] for row in agreement(ours, theirs, seeds=4).rows] == ["yes", "no"]


def test_a_difference_of_effects_is_tested_from_their_intervals() -> None:
    rng = random.Random(0)
    of_seeds = [[rng.gauss(mean, 0.05) for _ in range(4)] for mean in (0.5, 0.9)]
    ours, theirs = ({("owl", "one"): paired_effect(values, [0.0] * 4)} for values in of_seeds)
    expected = ttest_ind(*of_seeds, equal_var=False).pvalue
    assert differences(ours, theirs, seeds=4) == [pytest.approx(expected)]
    same = {("cat", "one"): (0.1, 0.0, 0.2)}
    assert differences(ours | same, theirs | same, seeds=4) == pytest.approx([2 * expected, 1.0])  # Holm
