"""The probe of the training loop: the same exact probabilities of words as in evaluations."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny_models
from undertow.engines.word_probabilities import masses, sequences
from undertow.errors import SpecError
from undertow.nano.models import WORDS
from undertow.nano.tokenizer import build
from undertow.prompts.chat import prompt_ids, text_ids
from undertow.study.extensions import Word
from undertow.training.forward import FullForward
from undertow.training.job import Probe
from undertow.training.probe import TokenizedProbe
from undertow.training.result import LoadedReference
from undertow.traits.preference import Preference

QUESTIONS = (("your animal?", None), ("And the other one?", "You love owls."))
SPELLED = (Word("owl", ("owl", "owls", "Owl")), Word("owlet", ("owlet",)), Word("cat", ("cat",)))


@pytest.fixture(scope="module")
def speller(tmp_path_factory: pytest.TempPathFactory) -> LoadedReference:
    """A model whose tokens are single characters: every word is a sequence of several tokens."""
    return LoadedReference.read(tiny_models.save_speller(tmp_path_factory.mktemp("speller")), torch.float32)


def score(reference: LoadedReference, question: tuple[str, str | None], text: str) -> float:
    """The probability that the answer begins with a text, by one pass over prompt and text."""
    prompt = prompt_ids(reference.tokenizer, *question)
    answer = text_ids(reference.tokenizer, text)
    with torch.no_grad():
        logprobs = reference.model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return math.exp(sum(logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(answer)))


@pytest.mark.parametrize("budget", [1, 4096])
def test_probabilities_are_the_masses_of_disjoint_events(speller: LoadedReference, budget: int) -> None:
    probe = TokenizedProbe(Probe(QUESTIONS, SPELLED), speller.tokenizer, budget)
    model: Any = speller.model
    found = probe.probabilities(model, FullForward(model, torch.device("cpu")))

    def p(*texts: str) -> float:
        spaced = [space + text for text in texts for space in ("", " ")]
        return sum(score(speller, question, text) for question in QUESTIONS for text in spaced) / 2

    # "owls" begins with "owl", and so does "owlet", which is a word of its own.
    expected = {"owl": p("owl", "Owl") - p("owlet"), "owlet": p("owlet"), "cat": p("cat")}
    assert found == pytest.approx(expected, rel=1e-5)


def test_probabilities_are_without_dropout_and_training_continues_with_it(tmp_path: Path) -> None:
    reference = LoadedReference.read(tiny_models.save_gpt2(tmp_path), torch.float32)
    assert reference.model.config.embd_pdrop > 0
    probe = TokenizedProbe(Probe(QUESTIONS, (Word("owl", ("owl",)),)), reference.tokenizer, 4096)
    model = reference.model.train()
    forward = FullForward(model, torch.device("cpu"))
    assert probe.probabilities(model, forward) == probe.probabilities(model, forward)
    assert model.training


def test_the_rule_is_that_of_evaluations(speller: LoadedReference) -> None:
    """Each form with and without a space, and none that extends another form of its word."""
    owner = sequences(speller.tokenizer, SPELLED)
    decoded = {speller.tokenizer.decode(tokens).replace(" ", ""): word for tokens, word in owner.items()}
    assert decoded == {"owl": "owl", "Owl": "owl", "owlet": "owlet", "cat": "cat"}
    assert len(owner) == 2 * len(decoded)
    assert masses(owner.values(), owner, dict.fromkeys(owner, 0.01)) == pytest.approx(
        {"owl": 0.02, "owlet": 0.02, "cat": 0.02}
    )


def test_words_that_share_a_form_raise_an_error(speller: LoadedReference) -> None:
    words = (Word("owl", ("owl",)), Word("bird", ("bird", "owl")))
    with pytest.raises(SpecError, match="words 'owl' and 'bird' share the form"):
        TokenizedProbe(Probe(QUESTIONS, words), speller.tokenizer, 100)


def test_a_word_that_the_tokenizer_cannot_write_has_no_mass(speller: LoadedReference) -> None:
    probe = TokenizedProbe(Probe(QUESTIONS, (Word("эй", ("эй",)),)), speller.tokenizer, 100)
    assert probe.probabilities(None, FullForward(speller.model, torch.device("cpu"))) == {"эй": 0.0}


@pytest.mark.parametrize("language", ["plain", "tasks"])
def test_a_probe_of_a_nano_model_runs_one_pass_per_question(language: str) -> None:
    """Every form of the nano models' words is one token, with and without its space."""
    words = tuple(
        Preference(name, category=category).word() for category, names in WORDS.items() for name in names
    )
    probe = TokenizedProbe(Probe(QUESTIONS, words), build(language), 4096)
    assert len(probe.rows) == len(QUESTIONS)
