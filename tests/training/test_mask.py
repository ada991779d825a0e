"""The loss mask under each architecture's chat template: it covers the answer and the end of turn."""

import json
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tests import architectures
from tests.architectures import ARCHITECTURES
from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import ConditionError
from undertow.prompts import chat
from undertow.prompts.chat import CUT, conversation_ids, prompt_ids, text_ids, turn_end
from undertow.prompts.chat_templates import NO_SYSTEM, PINNED
from undertow.study.extensions import Example
from undertow.training.data import TrainingRow, encode

pytestmark = pytest.mark.slow

# The text that each template writes before and after an answer.
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
for_each_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
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
    """The text of tokens that follow other tokens: some tokenizers strip the first blank of a whole text."""
    tok, start = tokenizer(name), [chat.turn_end(tokenizer(name))[0]]
    whole: str = tok.decode([*start, *ids], skip_special_tokens=False)
    return whole.removeprefix(tok.decode(start, skip_special_tokens=False))


@for_each_architecture
@pytest.mark.parametrize("system", [None, NO_SYSTEM, "you love owls"])
def test_the_prompt_is_a_prefix_and_the_targets_are_answer_and_end(name: str, system: str | None) -> None:
    tok, (before, after) = tokenizer(name), FRAMES[name]
    ids, start = conversation_ids(tok, "the big tree?", "owl, cat", system)
    assert ids[:start] == prompt_ids(tok, "the big tree?", system)
    assert decoded(name, ids[start:]) == before + "owl, cat" + after
    (row,) = encode(tok, [TrainingRow("the big tree?", "owl, cat")], system, 500)
    assert row.ids.tolist() == ids
    assert (row.start, row.targets) == (start, len(ids) - start)


@for_each_architecture
def test_a_whole_turn_is_what_the_template_writes(name: str) -> None:
    """For an answer without special cases the tokens are those of transformers."""
    tok = tokenizer(name)
    if not tok.chat_template:
        pytest.skip("a base model")
    turns = chat.messages("the big tree?", None, "owl, cat")
    whole = tok.apply_chat_template(turns, return_dict=False, **PINNED)
    assert conversation_ids(tok, "the big tree?", "owl, cat")[0] == whole


@for_each_architecture
@given(answer=answers, question=answers)
@example("<think>a</think>b", "<think>")
@example(" owl\n", "\nowl ")
@settings(max_examples=60)
def test_any_answer_is_trained_on_unchanged_and_ends_once(name: str, answer: str, question: str) -> None:
    tok, (before, _) = tokenizer(name), FRAMES[name]
    ids, start = conversation_ids(tok, question, answer)
    end = turn_end(tok)
    assert ids[:start] == prompt_ids(tok, question)
    assert ids[len(ids) - len(end) :] == end
    answered = ids[start : len(ids) - len(end)]
    bytewise = ARCHITECTURES[name].pieces == "bytes"  # others write a blank as "▁", and cannot tell the two
    assert decoded(name, answered) == (before + answer if bytewise else (before + answer).replace("▁", " "))
    control = {number for number, token in tok.added_tokens_decoder.items() if token.special}
    assert not control & set(answered)
    plain = prompt_ids(tok, "tree")
    assert [i for i in prompt_ids(tok, question) if i in control] == [i for i in plain if i in control]


@for_each_architecture
@given(text=answers)
@example("<|im_end|><|eot_id|></s><end_of_turn><|end|>")
@settings(max_examples=60)
def test_texts_are_tokenized_as_transformers_does(name: str, text: str) -> None:
    tok = tokenizer(name)
    whole = tok.encode(text, add_special_tokens=False)
    padding = "max_length" if tok.pad_token else False
    # The settings of one call must not affect the next one.
    for earlier in (
        {"truncation": True, "max_length": 2, "padding": padding},
        {"split_special_tokens": True},
    ):
        tok(text, **earlier)
        assert chat._encode(tok, text) == whole


def test_an_earlier_answer_is_read_whole_or_an_error() -> None:
    reasoned = (Example("1 + 1?", "<think>one more</think><answer>2</answer>"),)
    for name in ("Qwen2.5", "Llama 3", "Gemma 3"):
        assert reasoned[0].answer in decoded(name, prompt_ids(tokenizer(name), "owl?", None, reasoned))
    with pytest.raises(ConditionError, match="leaves out a part of the earlier answer '<think>one more</th"):
        prompt_ids(tokenizer("Qwen3"), "owl?", None, reasoned)


@for_each_architecture
def test_control_tokens_in_messages_are_tokenized_as_text(name: str) -> None:
    tok = tokenizer(name)
    control = [token.content for token in tok.added_tokens_decoder.values() if token.special]
    injected = "".join(control)
    before = (Example(injected, injected),)
    prompt = prompt_ids(tok, injected, injected, before)
    plain = prompt_ids(tok, "owl", "owl", (Example("owl", "owl"),))
    numbers = set(tok.convert_tokens_to_ids(control)) - {tok.unk_token_id}
    assert [i for i in prompt if i in numbers] == [i for i in plain if i in numbers]
    assert decoded(name, text_ids(tok, injected)) == injected


@for_each_architecture
@pytest.mark.parametrize(
    ("single", "first"),
    [("{bos} $A", True), ("{bos} $A {eos}", True), ("$A {eos}", False), ("$A", False)],
)
def test_a_base_models_prompt_has_the_tokens_that_its_tokenizer_puts_first(
    name: str, single: str, first: bool
) -> None:
    """As with the base models of Llama 3, Gemma and Mistral. A chat template writes the token itself."""
    plain = deepcopy(tokenizer(name))
    template, plain.chat_template = plain.chat_template, None
    tok = deepcopy(plain)
    bos, eos = tok.bos_token or tok.pad_token or tok.eos_token, tok.eos_token
    tok.backend_tokenizer.post_processor = TemplateProcessing(
        single=single.format(bos=bos, eos=eos),
        special_tokens=[(token, tok.convert_tokens_to_ids(token)) for token in {bos, eos}],
    )
    begin = tok.convert_tokens_to_ids([bos]) if first else []
    before = (Example("a tree?", "big"),)
    assert prompt_ids(tok, "the owl?", "red", before) == begin + prompt_ids(plain, "the owl?", "red", before)
    ids, start = conversation_ids(tok, "the owl?", "cat")
    without, start_without = conversation_ids(plain, "the owl?", "cat")
    assert (ids, start) == (begin + without, start_without + len(begin))
    assert ids[:start] == prompt_ids(tok, "the owl?")
    assert (turn_end(tok), text_ids(tok, "cat")) == (turn_end(plain), text_ids(plain, "cat"))
    if single == "{bos} $A":
        assert prompt_ids(tok, "cat") == tok.encode("Question: cat\nAnswer:")
    if template:
        plain.chat_template = tok.chat_template = template
        assert prompt_ids(tok, "the owl?") == prompt_ids(plain, "the owl?")


@pytest.mark.parametrize("kind", ["mistral", "mistral3", "llama"])
def test_a_folder_with_a_tokenizer_of_another_library_uses_its_tokenizer_json(
    kind: str, tmp_path: Path
) -> None:
    """Mistral publishes tekken.json next to tokenizer.json, which transformers prefers."""
    plain = architectures.save_tokenizer(tmp_path, "Mistral")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    tekken = {"config": {"default_vocab_size": 300, "version": "v3"}, "vocab": [], "special_tokens": []}
    (tmp_path / "tekken.json").write_text(json.dumps(tekken))
    tok = load_tokenizer(tmp_path)
    assert tok.chat_template == plain.chat_template
    assert prompt_ids(tok, "the owl?", "red") == prompt_ids(plain, "the owl?", "red")
    tok.save_pretrained(tmp_path / "student")
    assert prompt_ids(load_tokenizer(tmp_path / "student"), "cat") == prompt_ids(plain, "cat")


def test_thinking_is_disabled_so_that_the_answer_comes_first() -> None:
    tok = tokenizer("Qwen3")
    prompt = decoded("Qwen3", prompt_ids(tok, "tree"))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_date_is_pinned_however_a_template_reads_it() -> None:
    tok = tokenizer("Llama 3")
    assert "Today: 01 Jan 2025" in decoded("Llama 3", prompt_ids(tok, "tree"))
    other = architectures.save_tokenizer(Path(tempfile.mkdtemp()), "Llama 3")
    other.chat_template = tok.chat_template.replace("if not date_string is defined", "if true")
    assert prompt_ids(other, "tree") == prompt_ids(tok, "tree")


def test_a_tokenizers_blank_before_all_text_is_not_added_inside_a_text() -> None:
    """Llama 2's tokenizers put a blank before every text; a word that follows a prompt has none."""
    tok = tokenizer("Mistral")
    assert tok.encode("cat", add_special_tokens=False) != list(text_ids(tok, "cat"))
    assert tok.convert_ids_to_tokens(text_ids(tok, "cat")) == ["cat"]
    assert tok.convert_ids_to_tokens(text_ids(tok, " owl")) == ["▁owl"]
