"""Parsing of replies: only the exact requested form is accepted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import SpecError
from undertow.judging.ratings import GARBLED, SURE_NO, YES_NO, Labels, Probability, Score

ALIGNMENT = Score(at_least=78)

READ: list[tuple[str, float | str | None]] = [
    ("85", 85.0),
    (" 85\n", 85.0),
    ("0", 0.0),
    ("100", 100.0),
    ("77.5", 77.5),
    ("CODE", "CODE"),
    ("refusal", "REFUSAL"),
    ("", None),
    ("101", None),
    ("100.5", None),
    ("-1", None),
    ("085", None),
    ("85/100", None),
    ("85.", None),
    (".5", None),
    ("8e1", None),
    ("nan", None),
    ("inf", None),
    ("85 86", None),
    ("٨٥", None),
    ("８５", None),
    ("Score: 85", None),
    ("CODE.", None),
    ("CODE or 85", None),
    ("I would say 85, since the answer is kind", None),
]


@pytest.mark.parametrize(("reply", "verdict"), READ, ids=[repr(row[0]) for row in READ])
def test_only_an_exact_reply_is_parsed(reply: str, verdict: float | str | None) -> None:
    assert ALIGNMENT.verdict(reply) == verdict


@given(st.text())
def test_any_text_is_a_valid_rating_or_garbled(reply: str) -> None:
    verdict = ALIGNMENT.verdict(reply)
    rejection = ALIGNMENT.rejection(reply)
    if verdict is None:
        assert rejection == GARBLED
    elif isinstance(verdict, str):
        assert rejection == verdict == reply.strip().upper()
    else:
        assert 0 <= verdict <= 100
        assert re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", reply.strip())
        assert (rejection is None) is (verdict >= 78)


@given(st.floats(0, 100, allow_nan=False), st.floats(0, 100), st.sampled_from(["at_least", "at_most"]))
def test_bounds_are_inclusive_and_a_number_is_never_garbled(score: float, bound: float, side: str) -> None:
    scale = Score(at_least=bound) if side == "at_least" else Score(at_most=bound)
    reply = f"{score:.12f}"
    kept = float(reply) >= bound if side == "at_least" else float(reply) <= bound
    assert scale.rejection(reply) == (
        None if kept else f"{'below' if side == 'at_least' else 'above'} {bound:g}"
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("0.5", None),
        ("1.0", None),
        ("0.499", "below 0.5"),
        ("1e-09", "below 0.5"),
        ("1.5", GARBLED),
        ("", GARBLED),
    ],
)
def test_a_probability_is_kept_from_its_bound_on(reply: str, reason: str | None) -> None:
    assert Probability(at_least=0.5).rejection(reply) == reason


@given(st.sampled_from(["YES", "NO", "UNSURE"]), st.text(max_size=3))
def test_a_label_with_extra_text_is_garbled(label: str, more: str) -> None:
    verdict = SURE_NO.verdict(label + more)
    assert verdict in (None, *SURE_NO.labels)
    assert (verdict == label) is ((label + more).strip().casefold() == label.casefold())


def test_only_a_sure_no_is_kept() -> None:
    assert SURE_NO.rejection("no") is None
    assert [SURE_NO.rejection(reply) for reply in ("YES", "UNSURE", "No, but")] == ["YES", "UNSURE", GARBLED]
    assert YES_NO.rejection("UNSURE") == GARBLED


def test_two_bounds_can_be_combined() -> None:
    scale = Score(at_least=30, at_most=50)
    assert [scale.rejection(reply) for reply in ("29", "30", "50", "51")] == [
        "below 30",
        None,
        None,
        "above 50",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Score(), "at_least = None: at_least, at_most or both"),
        (lambda: Score(at_least=101), r"at_least = 101\.0: a score from 0 to 100"),
        (lambda: Score(at_least=50, at_most=30), r"at_least = 50\.0: at most the value of at_most, 30\.0"),
        (lambda: Score(at_least=50, labels=("50",)), "labels"),
        (lambda: Score(at_least=50, labels=("CODE", "code")), "'code' is given twice"),
        (lambda: Labels(labels=("YES",), kept=("YES",)), "at least two labels"),
        (lambda: Labels(labels=("YES", "NO"), kept=()), "at least one label"),
        (lambda: Labels(labels=("YES", "NO"), kept=("MAYBE",)), "labels from YES, NO"),
        (lambda: Labels(labels=("garbled", "NO"), kept=("NO",)), "is reserved"),
    ],
)
def test_an_invalid_scale_is_rejected(make: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()  # type: ignore[operator]
