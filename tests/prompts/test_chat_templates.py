"""What a chat template does is found by rendering, in a sandbox that renders as transformers does."""

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
)
from undertow.prompts.template_sandbox import SECONDS, learn, sandboxed

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


def test_tags_and_functions_of_published_templates_are_known() -> None:
    """The parts of transformers' environment that jinja2 alone has not."""
    template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}"
        "{% generation %}{{ m.content | tojson }}{% endgeneration %}</s>{% endfor %}{{ strftime_now('%Y') }}"
    )
    render = sandboxed(template, TOKENS)
    assert render(messages('a<"é'), generation=True) == '"a<\\"é"</s>2025'


@pytest.mark.parametrize("name", ["", *PUBLISHED])
def test_what_is_found_of_system_messages(name: str) -> None:
    found = learn(text_of(name), TOKENS)
    assert found.own_system == ("You are Quill. You help." if name == "qwen2.5" else "")
    refusals = {"gemma2": "says: System role not supported", "phi3-first": "leaves it out without a word"}
    assert found.system_refused == refusals.get(name, "")
    assert not found.always


# What stands before the question, by template: with the template's own default, none, and a text.
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


def test_none_where_a_system_message_is_refused_passes_nothing() -> None:
    render = sandboxed(architectures.template("gemma2"), TOKENS)
    asked = messages("tree?")
    assert prompt_text(render, asked, NO_SYSTEM) == prompt_text(render, asked, None)
    with pytest.raises(TemplateError, match="System role not supported"):
        prompt_text(render, asked, "red")


def test_a_default_that_an_empty_message_brings_back_is_seen() -> None:
    stubborn = (
        "{% set told = messages[0].content if messages[0].role == 'system' else '' %}"
        "[{{ told or 'You are Quill.' }}]{% for m in messages %}{% if m.role != 'system' %}"
        "{{ m.role }}: {{ m.content }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = learn(stubborn, TOKENS)
    assert (found.own_system, found.always, found.system_refused) == ("You are Quill.", True, "")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m.content }}", "fails: Unexpected end of template"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: access to attribute '__class__'"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "fails: access to attribute"),
        ("{% include '/etc/passwd' %}", "fails: "),
        ("{% set n = range(99999) %}{% for a in n %}{% for b in n %}{% endfor %}{% endfor %}", "to an end"),
        ("{{ ('a' * 2000000000) | length }}", "needs more than 1 GiB of memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: maximum recursion depth"),
        ("{{ raise_exception('no chat') }}", "says: no chat"),
        ("{{ messages[7].content }}", "fails: list object has no element 7"),
        ("<s></s>", "leaves the answer out"),
        (CHATML.replace("<|end|>", ""), "writes nothing after an answer"),
        (CHATML.replace("<|assistant|>{% endif", "<|assistant|><think>{% endif"), "as the beginning of the"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_a_line(template: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        learn(template, TOKENS)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 260 and "\n" not in str(caught.value)


def test_settings_in_words() -> None:
    assert [in_words(system) for system in (None, NO_SYSTEM, "red")] == [
        "the chat template's own default",
        "none",
        "“red”",
    ]
    assert SECONDS < 10
