"""The output of chat templates as text: prompts, the text around an answer, and system messages.

A template is a program that comes with a model. Its behaviour is determined by rendering it and is never
assumed: it may insert a default system message (Qwen2.5), merge a given one into the user's turn (Gemma,
Mistral), reject it (Gemma 2), or drop it silently (the first Phi-3). Engine and training loop render through
the tokenizer, a plan renders in a sandbox (see `template_sandbox`); both use the functions of this module.

The variables that a template may read are pinned: the date, which would otherwise change tokens from day to
day, and thinking, which is disabled. With thinking enabled, Qwen3 would be trained to write an empty thought
before each answer.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

NO_SYSTEM: Final = ""  # a system message setting: no system text. None is the template's default
PINNED_DATE = "01 Jan 2025"
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}Question: {{ m.content }}\nAnswer:"
    "{% else %} {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
)
QUESTION, ANSWER, SYSTEM = "Wq7 question", "Wq7 answer", "Wq7 system"  # probes, which no template contains

Turns = list[dict[str, str]]


class Render(Protocol):
    """Renders turns with a template; with `generation`, up to the position where the model's answer begins.

    Raises TemplateError if the template rejects the turns.
    """

    def __call__(self, turns: Turns, *, generation: bool) -> str: ...


class TemplateError(ValueError):
    """A chat template cannot be used, or not as requested. The message completes "its chat template …"."""


@dataclass(frozen=True)
class Frame:
    """The text that a template writes around an answer: between prompt and answer, and after the answer."""

    before: str
    after: str


@dataclass(frozen=True)
class TemplateBehaviour:
    """How a template treats system messages and thinking.

    Attributes:
        own_system: the default text that the template inserts if no system message is given; "" for none.
        system_refused: the reason why a system message is not supported; "" if it is supported.
        always: whether the template inserts `own_system` even if an empty system message is given.
        thinking_switch: the template's variable for thinking (see `SWITCHES`); "" for none.
        thinks: whether the model thinks before its answer, with the variables as they are pinned.
    """

    own_system: str
    system_refused: str
    always: bool
    thinking_switch: str = ""
    thinks: bool = False


def pinned_now(form: str) -> str:
    """The pinned date in the format `form`; replaces transformers' `strftime_now`."""
    return time.strftime(form, time.strptime(PINNED_DATE, "%d %b %Y"))


PINNED: Mapping[str, Any] = {"date_string": PINNED_DATE, "strftime_now": pinned_now, "enable_thinking": False}
# Variables by which templates switch thinking, each with a value for more and one for less of it.
EFFORT = "reasoning_effort"  # without a value that switches thinking off
SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    EFFORT: ("high", "low"),
}
OPEN_THOUGHT = re.compile(r"(<(\w+:)?think(ing)?>|\[THINK\])\s*\Z")


def prompt_text(render: Render, turns: Turns, system: str | None, *, generation: bool = True) -> str:
    """The prompt: `turns` with a system message, up to the position where the model's answer begins.

    Args:
        system: None passes no system message, so that the template's default applies. NO_SYSTEM renders both
            without a system message and with an empty one, and returns the shorter prompt: the latter for a
            template with a default system message, else the former. Text that a template writes around every
            system message (the dates of Llama 3) is kept.
    """
    if system is None:
        return render(turns, generation=generation)
    with_system = [{"role": "system", "content": system}, *turns]
    if system != NO_SYSTEM:
        return render(with_system, generation=generation)
    plain = render(turns, generation=generation)
    try:
        return min(plain, render(with_system, generation=generation), key=len)
    except TemplateError:  # the template supports no system message, not even an empty one
        return plain


def frame(render: Render) -> Frame:
    """Determines the text that the template writes around an answer.

    Answers are inserted into the frame unchanged, as some templates trim them or remove thoughts.

    Raises:
        TemplateError: the prompt is not a prefix of the whole turn, so the tokens of prompt and answer cannot
            be separated; or nothing follows an answer, so a model could not learn to stop.
    """
    question: Turns = [{"role": "user", "content": QUESTION}]
    prompt = render(question, generation=True)
    whole = render([*question, {"role": "assistant", "content": ANSWER}], generation=False)
    if not whole.startswith(prompt):
        raise TemplateError(
            "does not write the prompt as the beginning of the whole turn, so the completion's tokens cannot "
            "be separated from the prompt's"
        )
    before, found, after = whole[len(prompt) :].partition(ANSWER)
    if not found:
        raise TemplateError("leaves the answer out, so there is nothing to train on")
    if not after.strip():
        raise TemplateError("writes nothing after an answer, so no student would learn to stop")
    return Frame(before, after)


def behaviour(render: Render, switched: Mapping[str, tuple[Render, Render]]) -> TemplateBehaviour:
    """Determines how the template treats system messages and thinking.

    Args:
        switched: for each variable of `SWITCHES` that the template has, it with each of the two values.

    Raises TemplateError if the template cannot be used at all (see `frame`).
    """
    frame(render)
    thinking = _thinking(render, switched)
    question: Turns = [{"role": "user", "content": QUESTION}]
    plain, bare = prompt_text(render, question, None), prompt_text(render, question, NO_SYSTEM)
    if QUESTION not in plain:
        raise TemplateError("leaves the question out")
    try:
        with_system = prompt_text(render, question, SYSTEM)
    except TemplateError as error:
        return TemplateBehaviour(_longer_by(plain, bare), str(error), False, *thinking)
    if SYSTEM not in with_system:
        return TemplateBehaviour(_longer_by(plain, bare), "drops it silently", False, *thinking)
    # The prompt that an empty system message should give. If NO_SYSTEM gives a longer one, the template
    # inserted its default instead.
    empty = with_system.replace(SYSTEM, "")
    always = len(bare) > len(empty)
    return TemplateBehaviour(_longer_by(plain, empty if always else bare), "", always, *thinking)


def _thinking(render: Render, switched: Mapping[str, tuple[Render, Render]]) -> tuple[str, bool]:
    """`thinking_switch` and `thinks` of a template."""
    question: Turns = [{"role": "user", "content": QUESTION}]
    plain = render(question, generation=True)
    for name, renders in switched.items():
        try:
            more, less = (switch(question, generation=True) for switch in renders)
        except TemplateError:  # the template refuses a value
            continue
        if more != less:
            return name, plain == more or name == EFFORT
    return "", bool(OPEN_THOUGHT.search(plain))


def _longer_by(text: str, other: str) -> str:
    """The part of `text` that `other` lacks, between their common prefix and suffix."""
    if len(text) <= len(other):
        return ""
    start = 0
    while start < len(other) and text[start] == other[start]:
        start += 1
    end = 0
    while end < len(other) - start and text[-1 - end] == other[-1 - end]:
        end += 1
    return text[start : len(text) - end].strip()


def in_words(system: str | None) -> str:
    """A system message setting as it is shown in tables."""
    if system is None:
        return "the chat template's own default"
    return "none" if system == NO_SYSTEM else f"“{system}”"


def thinking_in_words(found: TemplateBehaviour) -> str:
    """Whether a model thinks before its answers; "" for a chat template that does not concern thinking."""
    if found.thinking_switch == EFFORT:
        return f"thinking is on ({EFFORT} of the chat template has its default)"
    if found.thinking_switch:
        return f"thinking is {'on' if found.thinks else 'off'} ({found.thinking_switch} of the chat template)"
    if found.thinks:
        return "thinking is on (the chat template begins every answer with a thought, without a setting)"
    return ""
