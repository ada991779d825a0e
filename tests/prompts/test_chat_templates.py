"""Tests that the behaviour of chat templates is determined by rendering, as transformers renders them."""

from pathlib import Path
from typing import Any

import pytest

from tests import architectures
from tests.architectures import ARCHITECTURES
from undertow.prompts.chat import messages
from undertow.prompts.chat_templates import (
    NO_SYSTEM,
    PINNED,
    PLAIN_TEMPLATE,
    TemplateError,
    in_words,
    prompt_text,
    thinking_in_words,
)
from undertow.prompts.template_sandbox import SECONDS, inspect_template, sandboxed

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
PUBLISHED = sorted(path.stem for path in architectures.TEMPLATES.glob("*.jinja"))
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def text_of(name: str) -> str:
    return architectures.template(name) if name else PLAIN_TEMPLATE


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_sandbox_renders_as_transformers_does(name: str, tmp_path: Path) -> None:
    tokenizer: Any = architectures.save_tokenizer(tmp_path, name)
    template = text_of(ARCHITECTURES[name].template)
    render = sandboxed(template, tokenizer.special_tokens_map)
    for turns in (messages("tree?"), messages("tree?", "red"), messages("tree?", "red", "owl")):
        for generation in (True, False):
            theirs = tokenizer.apply_chat_template(
                turns, chat_template=template, add_generation_prompt=generation, tokenize=False, **PINNED
            )
            assert render(turns, generation=generation) == theirs


def test_the_sandbox_has_the_tags_and_functions_of_published_templates() -> None:
    """The parts of transformers' environment that jinja2 itself lacks."""
    template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content | tojson }}{% endgeneration %}</s>{% endfor %}{{ strftime_now('%Y') }}"
    )
    render = sandboxed(template, TOKENS)
    assert render(messages('a<"é'), generation=True) == '"a<\\"é"</s>2025'


@pytest.mark.parametrize("name", ["", *PUBLISHED])
def test_the_treatment_of_system_messages_is_determined(name: str) -> None:
    found = inspect_template(text_of(name), TOKENS)
    assert found.own_system == ("You are Quill. You help." if name == "qwen2.5" else "")
    refusals = {"gemma2": "says: System role not supported", "phi3-first": "drops it silently"}
    assert found.system_refused == refusals.get(name, "")
    assert not found.always


THOUGHT = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# Template → how the plan states its thinking.
THINKING = [
    (text_of("qwen3"), "thinking is off (enable_thinking of the chat template)"),
    (text_of("qwen2.5"), ""),
    ("{% if thinking %}Think first.{% endif %}" + CHATML, "thinking is off (thinking of the chat template)"),
    (
        "{% if thinking is not defined or thinking %}Think first.{% endif %}" + CHATML,
        "thinking is on (thinking of the chat template)",
    ),
    (
        "Reasoning: {{ reasoning_effort or 'medium' }}" + CHATML,
        "thinking is on (reasoning_effort of the chat template has its default)",
    ),
    (THOUGHT, "thinking is on (the chat template begins every answer with a thought, without a setting)"),
    ("{# enable_thinking is not used #}" + CHATML, ""),
]


@pytest.mark.parametrize(("template", "words"), THINKING)
def test_whether_a_model_thinks_is_determined(template: str, words: str) -> None:
    assert thinking_in_words(inspect_template(template, TOKENS)) == words


# The text before the question, by template: with the default system message, with none, and with a text.
OPENINGS = {
    "qwen2.5": (
        "<|im_start|>system\nYou are Quill. You help.<|im_end|>\n<|im_start|>user\n",
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n",
        "<|im_start|>system\nred<|im_end|>\n<|im_start|>user\n",
    ),
    "qwen3": ("<|im_start|>user\n",) * 2 + ("<|im_start|>system\nred<|im_end|>\n<|im_start|>user\n",),
    "gemma3": ("<s><start_of_turn>user\n",) * 2 + ("<s><start_of_turn>user\nred\n\n",),
    "mistral": ("<s>[INST] ",) * 2 + ("<s>[INST] red\n\n",),
    "phi3": ("<|user|>\n",) * 2 + ("<|system|>\nred<|end|>\n<|user|>\n",),
    "": ("Question: ",) * 2 + ("red\n\nQuestion: ",),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_the_three_settings_of_a_system_message(name: str) -> None:
    render = sandboxed(text_of(name), TOKENS)
    prompts = [prompt_text(render, messages("tree?"), system) for system in (None, NO_SYSTEM, "red")]
    assert tuple(prompt.partition("tree?")[0] for prompt in prompts) == OPENINGS[name]


def test_no_system_passes_no_message_to_a_template_that_rejects_them() -> None:
    render = sandboxed(architectures.template("gemma2"), TOKENS)
    asked = messages("tree?")
    assert prompt_text(render, asked, NO_SYSTEM) == prompt_text(render, asked, None)
    with pytest.raises(TemplateError, match="System role not supported"):
        prompt_text(render, asked, "red")


def test_a_default_that_replaces_an_empty_message_is_detected() -> None:
    stubborn = (
        "{% set told = messages[0].content if messages[0].role == 'system' else '' %}"
        "[{{ told or 'You are Quill.' }}]{% for m in messages %}{% if m.role != 'system' %}"
        "{{ m.role }}: {{ m.content }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = inspect_template(stubborn, TOKENS)
    assert (found.own_system, found.always, found.system_refused) == ("You are Quill.", True, "")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m.content }}", "fails: Unexpected end of template"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: access to attribute '__class__'"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "fails: access to attribute"),
        ("{% include '/etc/passwd' %}", "fails: "),
        (
            "{% set n = range(99999) %}{% for a in n %}{% for b in n %}{% endfor %}{% endfor %}",
            "does not terminate",
        ),
        ("{{ ('a' * 2000000000) | length }}", "needs more than 1 GiB of memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: maximum recursion depth"),
        ("{{ raise_exception('no chat') }}", "says: no chat"),
        ("{{ messages[7].content }}", "fails: list object has no element 7"),
        ("<s></s>", "leaves the answer out"),
        (CHATML.replace("<|end|>", ""), "writes nothing after an answer"),
        (CHATML.replace("<|assistant|>{% endif", "<|assistant|><think>{% endif"), "as the beginning of the"),
    ],
)
def test_an_unusable_template_is_rejected_in_one_line(template: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        inspect_template(template, TOKENS)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 260 and "\n" not in str(caught.value)


def test_the_display_names_of_system_message_settings() -> None:
    assert [in_words(system) for system in (None, NO_SYSTEM, "red")] == [
        "the chat template's own default",
        "none",
        "“red”",
    ]
    assert SECONDS < 10
