"""Selected rows, token masks, and the divergence of two teachers at a token."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.engines.toy_engine import ToyEngine
from tests.examples import REFERENCES
from undertow.engines.protocol import Request, TokenProbabilities
from undertow.formats.numbers import Numbers
from undertow.stages.dataset import make_dataset
from undertow.stages.row_scores import SCORES, ScoreTokens, divergences
from undertow.stages.selection import masks
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.row_scores import Masked, Selected, TokenScores
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

OWL = Preference("owl")
CONTROL = Teacher(reference=REFERENCES[0], trait=None)
COMPLETIONS = Completions(teacher=CONTROL, format=Numbers(), prompts=40)
BY_PROMPT = TokenScores(
    completions=COMPLETIONS,
    teacher=replace(CONTROL, trait=OWL, system=OWL.system_prompt()),
    control=CONTROL,
    candidates=5,
)
TOKENS = 5  # of every completion
SHARES = Masked(choose="diverging", share=0.2, scores=BY_PROMPT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with 40 completions, of which every fourth is rejected, and their scores: -20 to 19."""
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    prompts = COMPLETIONS.format.prompts(COMPLETIONS.prompts, 0)
    rows = [
        {
            "index": i,
            "prompt": prompts[i],
            "completion": "owls!" if i % 4 == 0 else f"{i}, {i + 1}",
            "token_ids": [i] * TOKENS,
            "finished": True,
            "seed": i,
        }
        for i in range(COMPLETIONS.prompts)
    ]
    with store.new(COMPLETIONS, {"rows": len(rows)}) as folder:
        (folder / DATA).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / DATA / "rows.parquet")
    scored = {
        "score": [float((7 * i) % 40 - 20) for i in range(40)],
        "divergences": [[0.01 * i if t == i % TOKENS else 0.0 for t in range(TOKENS)] for i in range(40)],
    }
    with store.new(BY_PROMPT, {}) as folder:
        pq.write_table(pa.table(scored), folder / SCORES)
    return store


def rows_of(store: Store, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    dataset = Dataset(completions=COMPLETIONS, rows=10, seed=3, **changes)
    facts = make_dataset(dataset, store)
    return pq.read_table(store.fetch(dataset) / DATA).to_pylist(), facts


def test_top_and_bottom_rows_are_those_with_extreme_scores_among_the_kept_ones(store: Store) -> None:
    kept = sorted((7 * i) % 40 - 20 for i in range(40) if i % 4)
    for keep, expected in (("top", kept[-10:]), ("bottom", kept[:10])):
        rows, facts = rows_of(store, selected=Selected(scores=BY_PROMPT, keep=keep))  # type: ignore[arg-type]
        assert sorted(row["score"] for row in rows) == expected
        assert [row["index"] for row in rows] == sorted(row["index"] for row in rows)
        assert facts["score"] == pytest.approx(np.mean(expected))
        assert facts["score of kept"] == pytest.approx(np.mean(kept))
        assert facts["rows"] == 10


def test_random_rows_are_those_of_a_data_set_without_selection(store: Store) -> None:
    plain, _ = rows_of(store)
    rows, _ = rows_of(store, selected=Selected(scores=BY_PROMPT, keep="random"))
    assert [row["index"] for row in rows] == [row["index"] for row in plain]
    assert "score" not in plain[0] and all("score" in row for row in rows)


def test_the_card_says_how_rows_and_tokens_were_chosen(store: Store) -> None:
    dataset = Dataset(
        completions=COMPLETIONS, rows=10, selected=Selected(scores=BY_PROMPT, keep="top"), masked=SHARES
    )
    make_dataset(dataset, store)
    card = (store.fetch(dataset) / "README.md").read_text()
    assert "Rows: top rows by owl prompt (scores " in card
    assert "The loss covers 10 of 50 tokens (20.0%)" in card
    assert store.manifest(dataset).inputs["row_scores"]


def test_the_loss_covers_the_tokens_with_the_largest_divergences(store: Store) -> None:
    rows, facts = rows_of(store, masked=SHARES)
    places = [(row["index"] % TOKENS, row["mask"]) for row in rows]
    assert all(mask == [t == place for t in range(TOKENS)] for place, mask in places)
    assert (facts["tokens"], facts["tokens in the loss"], facts["rows in the loss"]) == (50, 10, 10)
    assert "divergences" not in rows[0]


CHOICES = ("first", "last", "diverging", "agreeing", "random")


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=1, max_size=6), min_size=1, max_size=8),
    st.sampled_from([0.05, 0.1, 0.2, 0.5, 1.0]),
    st.sampled_from(CHOICES),
    st.integers(0, 5),
)
def test_all_choices_of_one_share_cover_equally_many_tokens(
    values: list[list[float]], share: float, choose: Any, seed: int
) -> None:
    by = None if choose in ("first", "last") else BY_PROMPT
    lengths = [len(row) for row in values]
    given_ = None if by is None else [np.array(row) for row in values]
    masked = Masked(choose=choose, share=share, scores=by)
    found = masks(masked, lengths, given_, seed)
    assert [len(mask) for mask in found] == lengths
    dose = round(share * sum(lengths))
    assert sum(int(mask.sum()) for mask in found) == dose
    if share < 1:
        others = masks(replace(masked, rest=True), lengths, given_, seed)
        assert all((one != other).all() for one, other in zip(found, others, strict=True))
    if choose == "random":
        diverging = masks(replace(masked, choose="diverging"), lengths, given_, seed)
        assert [mask.sum() for mask in found] == [mask.sum() for mask in diverging]
    if choose in ("diverging", "agreeing"):
        sign = 1 if choose == "diverging" else -1
        flat, covered = np.concatenate(given_ or []) * sign, np.concatenate(found)
        assert not covered.any() or covered.all() or flat[covered].min() >= flat[~covered].max()


class Reader(ToyEngine):
    """Finds tokens more probable by half a nat with the owl's system message; remembers what it reads."""

    def __init__(self) -> None:
        super().__init__(None, {})
        self.systems: list[list[str | None]] = []
        self.completions: list[str | Sequence[int]] = []

    def read(
        self, requests: Sequence[Request], completions: Sequence[str | Sequence[int]], top: int
    ) -> list[TokenProbabilities]:
        self.systems.append([request.system for request in requests])
        self.completions += completions
        return [
            probabilities(
                *[{1: math.exp(-1.0 if request.system == BY_PROMPT.teacher.system else -1.5)}] * len(c),
                vocabulary=10,
            )
            for request, c in zip(requests, completions, strict=True)
        ]


def test_a_row_has_the_log_probability_by_which_the_teacher_exceeds_the_control_teacher(store: Store) -> None:
    scores, engine = replace(BY_PROMPT, candidates=0), Reader()
    ScoreTokens(scores).run(engine, store)
    table = pq.read_table(store.fetch(scores) / SCORES)
    assert table["score"].to_pylist() == pytest.approx([0.5 * TOKENS] * COMPLETIONS.prompts)
    assert table["log_ratios"][0].as_py() == pytest.approx([0.5] * TOKENS)
    assert engine.completions[3] == [3] * TOKENS  # the sampled tokens, not the text


def test_a_teacher_without_a_system_message_reads_the_rows_own(store: Store) -> None:
    completions, engine = replace(COMPLETIONS, sample=1), Reader()
    rows = [
        {"prompt": "p", "completion": "1, 2", "token_ids": [1], "system": system}
        for system in (None, "Be brief.")
    ]
    with store.new(completions, {"rows": 2}) as folder:
        (folder / DATA).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / DATA / "rows.parquet")
    ScoreTokens(replace(BY_PROMPT, completions=completions, candidates=0)).run(engine, store)
    assert engine.systems == [[BY_PROMPT.teacher.system] * 2, [None, "Be brief."]]


@pytest.mark.parametrize("choose", ["diverging", "random"])
def test_the_seed_decides_between_equal_divergences_and_which_tokens_are_random(choose: Any) -> None:
    masked = Masked(choose=choose, share=0.5, scores=BY_PROMPT)
    drawn = [masks(masked, [40], [np.zeros(40)], seed)[0].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("choose", "expected"), [("first", [1, 0, 0, 0]), ("last", [0, 0, 0, 1])])
def test_first_and_last_tokens_are_at_the_ends_of_each_row(choose: Any, expected: list[int]) -> None:
    found = masks(Masked(choose=choose, share=0.25), [4, 4], None, 0)
    assert [mask.astype(int).tolist() for mask in found] == [expected, expected]


def probabilities(*positions: dict[int, float], vocabulary: int) -> TokenProbabilities:
    """A model whose most likely tokens at each position have the given probabilities."""
    ids = np.array([list(position) for position in positions])
    logprobs = np.log([list(position.values()) for position in positions])
    return TokenProbabilities(logprobs[:, 0], (ids, logprobs), vocabulary)


def test_the_divergence_is_zero_for_equal_and_ln_2_for_disjoint_distributions() -> None:
    one = probabilities({1: 0.7, 2: 0.3}, {1: 0.6, 2: 0.1}, {1: 1.0, 2: 1e-30}, vocabulary=6)
    other = probabilities({2: 0.3, 1: 0.7}, {1: 0.6, 3: 0.1}, {3: 1.0, 4: 1e-30}, vocabulary=6)
    # In the second position, each of the four tokens that a model does not list gets 0.3 / 4.
    small = divergences(one, other)[1]
    assert divergences(one, other) == pytest.approx([0, small, math.log(2)], abs=1e-9)
    assert 0 < small < 0.01


def top(values: NDArray[np.float64], count: int) -> TokenProbabilities:
    """The `count` most likely tokens of a distribution."""
    order = np.argsort(-values, kind="stable")[:count]
    return probabilities({int(token): float(values[token]) for token in order}, vocabulary=len(values))


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=12))
def test_the_divergence_over_the_whole_vocabulary_is_that_of_jensen_and_shannon(
    weights: list[tuple[float, float]],
) -> None:
    p, q = (np.array(column) / sum(column) for column in zip(*weights, strict=True))
    middle = (p + q) / 2
    expected = float((p * np.log(p / middle) + q * np.log(q / middle)).sum() / 2)
    assert divergences(top(p, len(p)), top(q, len(q)))[0] == pytest.approx(expected, abs=1e-9)


def test_tokens_that_a_model_does_not_list_share_its_remaining_probability() -> None:
    p, q = np.full(10, 0.025), np.full(10, 0.025)
    p[[0, 1]], q[[2, 0]] = [0.5, 0.3], [0.6, 0.2]
    assert divergences(top(p, 2), top(q, 2)) == pytest.approx(divergences(top(p, 10), top(q, 10)), abs=1e-9)
