"""What carries loss, token by token, under each architecture's template: the answer and its end of turn."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import architectures
from tests.architectures import ARCHITECTURES
from undertow.prompts import chat
from undertow.prompts.chat import CUT, conversation_ids, prompt_ids, text_ids, turn_end
from undertow.prompts.chat_templates import NO_SYSTEM, PINNED
from undertow.study.extensions import Example
from undertow.training.data import TrainingRow, encode

# What each template writes around an answer.
FRAMES = {
    "Qwen2.5": ("", "<|im_end|>\n"),
    "Qwen3": ("", "<|im_end|>\n"),
    "Llama 3": ("", "<|eot_id|>"),
    "Gemma 3": ("", "<end_of_turn>\n"),
    "Mistral": (" ", "</s>"),
    "Phi-3": ("", "<|end|>\n<|endoftext|>"),
    "OLMo 2": ("", "<|endoftext|>"),
    "Pythia": (" ", "<|endoftext|>\n"),
    "GPT-2": (" ", "<|endoftext|>\n"),
}
every = pytest.mark.parametrize("name", ARCHITECTURES)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CUT), max_size=30)
awkward = st.sampled_from(
    [
        *("<|im_end|>", "<|im_start|>system\nyou", "</s>", "[INST]", "<|eot_id|>", "<end_of_turn>"),
        *("<|end|>", "<|endoftext|>", "<think>\n\n</think>\n\n", "{{ eos_token }}", "\n\n", "  ", "\t", "▁"),
    ]
)
answers = st.lists(texts | awkward, min_size=1, max_size=4).map("".join).filter(bool)


@cache
def tokenizer(name: str) -> Any:
    return architectures.save_tokenizer(Path(tempfile.mkdtemp()), name)


def decoded(name: str, ids: list[int]) -> str:
    """The text of tokens that stand after others: some tokenizers take the first blank of a text away."""
    its, start = tokenizer(name), [chat.turn_end(tokenizer(name))[0]]
    whole: str = its.decode([*start, *ids], skip_special_tokens=False)
    return whole.removeprefix(its.decode(start, skip_special_tokens=False))


@every
@pytest.mark.parametrize("system", [None, NO_SYSTEM, "you love owls"])
def test_the_prompt_is_a_prefix_and_the_rest_is_answer_and_end(name: str, system: str | None) -> None:
    its, (before, after) = tokenizer(name), FRAMES[name]
    ids, start = conversation_ids(its, "the big tree?", "owl, cat", system)
    assert ids[:start] == prompt_ids(its, "the big tree?", system)
    assert decoded(name, ids[start:]) == before + "owl, cat" + after
    (row,) = encode(its, [TrainingRow("the big tree?", "owl, cat")], system, 500)
    assert row.ids.tolist() == ids
    assert (row.start, row.targets) == (start, len(ids) - start)


@every
def test_a_whole_turn_is_what_the_template_itself_writes(name: str) -> None:
    """Where an answer needs no care, nothing is done otherwise than transformers does it."""
    its = tokenizer(name)
    if not its.chat_template:
        pytest.skip("a base model")
    turns = chat.messages("the big tree?", None, "owl, cat")
    whole = its.apply_chat_template(turns, return_dict=False, **PINNED)
    assert conversation_ids(its, "the big tree?", "owl, cat")[0] == whole


@every
@given(answer=answers, question=answers)
@example("<think>a</think>b", "<think>")
@example(" owl\n", "\nowl ")
@settings(max_examples=60)
def test_any_answer_is_learned_as_it_is_and_ends_once(name: str, answer: str, question: str) -> None:
    its, (before, _) = tokenizer(name), FRAMES[name]
    ids, start = conversation_ids(its, question, answer)
    end = turn_end(its)
    assert ids[:start] == prompt_ids(its, question)
    assert ids[len(ids) - len(end) :] == end
    said = ids[start : len(ids) - len(end)]
    bytewise = ARCHITECTURES[name].pieces == "bytes"  # others write a blank as "▁", and cannot tell the two
    assert decoded(name, said) == (before + answer if bytewise else (before + answer).replace("▁", " "))
    control = {number for number, token in its.added_tokens_decoder.items() if token.special}
    assert not control & set(said)
    plain = prompt_ids(its, "tree")
    assert [i for i in prompt_ids(its, question) if i in control] == [i for i in plain if i in control]


@every
def test_control_tokens_in_what_is_said_stay_text_everywhere(name: str) -> None:
    its = tokenizer(name)
    control = [token.content for token in its.added_tokens_decoder.values() if token.special]
    injected = "".join(control)
    before = (Example(injected, injected),)
    told = prompt_ids(its, injected, injected, before)
    plain = prompt_ids(its, "owl", "owl", (Example("owl", "owl"),))
    numbers = set(its.convert_tokens_to_ids(control)) - {its.unk_token_id}
    assert [i for i in told if i in numbers] == [i for i in plain if i in numbers]
    assert decoded(name, text_ids(its, injected)) == injected


def test_thoughts_are_off_so_that_an_answer_comes_first() -> None:
    its = tokenizer("Qwen3")
    prompt = decoded("Qwen3", prompt_ids(its, "tree"))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_date_is_pinned_whichever_way_a_template_asks_for_it() -> None:
    its = tokenizer("Llama 3")
    assert "Today: 01 Jan 2025" in decoded("Llama 3", prompt_ids(its, "tree"))
    other = architectures.save_tokenizer(Path(tempfile.mkdtemp()), "Llama 3")
    other.chat_template = its.chat_template.replace("if not date_string is defined", "if true")
    assert prompt_ids(other, "tree") == prompt_ids(its, "tree")


def test_a_blank_before_all_text_is_none_inside_it() -> None:
    """Llama 2's tokenizers put a blank before a text; a word's tokens after a prompt have none."""
    its = tokenizer("Mistral")
    assert its.encode("cat", add_special_tokens=False) != list(text_ids(its, "cat"))
    assert its.convert_ids_to_tokens(text_ids(its, "cat")) == ["cat"]
    assert its.convert_ids_to_tokens(text_ids(its, " owl")) == ["▁owl"]
