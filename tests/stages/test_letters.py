"""Evaluations whose questions offer options by letter: scores, probabilities and their verification."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.engines.toy_engine import ToyEngine
from tests.examples import REFERENCES, study
from undertow.archive.verify import _answers
from undertow.engines.protocol import Answer, Request
from undertow.errors import SpecError
from undertow.planning.cells import cell_of
from undertow.results.evaluation_files import MASSES, Evaluations
from undertow.stages.evaluation import Evaluate
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.identity import canonical, key
from undertow.study.measurements import Evaluation, letter_of
from undertow.study.study import Measure
from undertow.traits.preference import ANIMALS, Preference

OWL, CAT = Word("owl", ("owl",)), Word("cat", ("cat",))
EVALUATION = Evaluation(
    subject=REFERENCES[0],
    questions=("A) owl, B) wolf?", "A) wolf, B) owl, C) cat?"),
    options=(("owl", "wolf"), ("wolf", "owl", "cat")),
    words=(OWL, CAT),
    samples=2,
)


class Chooses(ToyEngine):
    """Always answers B; the letters A, B and C have the probabilities .2, .5 and .1."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        return [Answer("B) of course", (1,), finished=True) for _ in requests]

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        assert [word.forms for word in words] == [("A",), ("B",), ("C",)]
        return [{"A": 0.2, "B": 0.5, "C": 0.1} for _ in requests]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b.", "B"), ("(B)", "B"), ("B) owl", "B"), ("**B**", "B"), ("Answer: B", "B"),
        ("The answer is B.", "B"), (" B\n", "B"), ("B: owl", "B"),
        ("B owl", "B"), ("b Owl.", "B"), ("Option B owl", "B"), ("A wolf", "A"),
        ("D", None), ("A dog", None), ("B wolf", None), ("B owlet", None), ("A big wolf", None),
        ("D owl", None), ("Because", None), ("owl", None), ("", None), ("I", None),
    ],
)  # fmt: skip
def test_the_letter_of_an_answer(answer: str, letter: str | None) -> None:
    assert letter_of(answer, ("wolf", "owl", "cat")) == letter


def test_an_answer_and_its_probability_are_those_of_the_words_letter(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.prepare()
    Evaluate(EVALUATION).run(Chooses(None, {}), store)
    rates = Evaluations(store).rates(key(EVALUATION))
    assert rates.sampled == {"owl": 0.5, "cat": 0.0}  # B is the owl in one of two questions
    assert rates.exact == pytest.approx({"owl": (0.2 + 0.5) / 2, "cat": 0.1 / 2})
    folder = store.fetch(EVALUATION)
    assert len(pq.read_table(folder / MASSES)) == 4
    assert Evaluations(store).contained(key(EVALUATION), "owl") is None
    spec = json.loads(json.dumps(canonical(EVALUATION)))
    assert list(_answers(folder, spec)) == []
    swapped = {**spec, "options": [["wolf", "owl"], spec["options"][1]]}
    assert any("scored wrongly" in problem for problem in _answers(folder, swapped))


def test_a_measure_by_letter_gives_its_evaluations_the_options() -> None:
    by_letter = study(also=(Measure(name="letters"),))
    condition = by_letter.conditions[0]
    (((of_owl, of_cat),),) = (cell_of(by_letter, condition, 0).also,)
    assert isinstance(of_owl, Evaluation) and isinstance(of_cat, Evaluation)
    assert of_owl.options == Preference("owl").options("letters")
    assert sorted(of_owl.options[0]) == sorted(ANIMALS)
    assert of_cat.options == Preference("cat").options("letters")
    main = study(main="letters")
    (first, _) = cell_of(main, main.conditions[0], 0).evaluations
    assert isinstance(first, Evaluation) and first.options == of_owl.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((("owl", "wolf"),), "options of each of the 2 questions"),
        ((("a", "a"), ("a", "b")), "1 to 10 different words"),
    ],
)
def test_invalid_options_are_rejected(options: tuple[tuple[str, ...], ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        EVALUATION.changed(options=options)


def test_no_word_is_probed_during_training_where_answers_are_letters() -> None:
    by_letter = replace(study(), main="letters")
    assert (by_letter.probed, study().probed) == ({}, study().questions)
