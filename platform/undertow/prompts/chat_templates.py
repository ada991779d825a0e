"""What a chat template writes, as text: the prompt, what frames an answer, what becomes of a system message.

A template is a program that came with a model, so what it does is found by rendering and never assumed:
whether it puts in a system message of its own (Qwen2.5 does), folds the one it is given into the user's turn
(Gemma, Mistral), refuses it (Gemma 2) or leaves it out without a word (the first Phi-3). The engine and the
training loop render through the tokenizer, a plan in a sandbox (see `sandbox`), by the same functions.

Everything a template may ask for is pinned: the date, which would change tokens from day to day, and
thinking, which is off: with it on, Qwen3 would be trained to write an empty thought before each answer.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

NO_SYSTEM: Final = ""  # as a system message: no system text at all. None: the template's own default
PINNED_DATE = "01 Jan 2025"
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}Question: {{ m.content }}\nAnswer:"
    "{% else %} {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
)
QUESTION, ANSWER, SYSTEM = "Wq7 question", "Wq7 answer", "Wq7 system"  # texts that no template writes itself

Turns = list[dict[str, str]]


class Render(Protocol):
    """A template, ready to render turns; with `generation` up to where the model's answer begins.

    Raises TemplateError where the template refuses them.
    """

    def __call__(self, turns: Turns, *, generation: bool) -> str: ...


class TemplateError(ValueError):
    """A chat template cannot be used, or not as asked; the message continues "its chat template …"."""


@dataclass(frozen=True)
class Frame:
    """What a template writes around an answer: right before it, after the prompt, and after it."""

    before: str
    after: str


@dataclass(frozen=True)
class Manners:
    """What a template does, as far as it differs between models.

    Attributes:
        own_system: the text that the template puts in where no system message is given; "" for none.
        system_refused: why a system message cannot be given; "" where it can.
        always: whether `own_system` stands there even when an empty system message is given.
    """

    own_system: str
    system_refused: str
    always: bool


def pinned_now(form: str) -> str:
    """The time that templates are told: always the same."""
    return time.strftime(form, time.strptime(PINNED_DATE, "%d %b %Y"))


PINNED: Mapping[str, Any] = {"date_string": PINNED_DATE, "strftime_now": pinned_now, "enable_thinking": False}


def prompt_text(render: Render, turns: Turns, system: str | None, *, generation: bool = True) -> str:
    """The prompt: `turns` under a system message, up to where the model's answer begins.

    Args:
        system: None passes no system message, and the template writes what it writes then. NO_SYSTEM is the
            shorter of no message and an empty one: the empty one where the template has a default of its
            own, else none. What a template writes around any system message (Llama 3's dates) stays.
    """
    if system is None:
        return render(turns, generation=generation)
    told = [{"role": "system", "content": system}, *turns]
    if system != NO_SYSTEM:
        return render(told, generation=generation)
    plain = render(turns, generation=generation)
    try:
        return min(plain, render(told, generation=generation), key=len)
    except TemplateError:  # it takes no system message, not even an empty one
        return plain


def frame(render: Render) -> Frame:
    """What the template writes around an answer.

    An answer is put into the frame as it is, so that no template can trim it or take thoughts out of it.

    Raises:
        TemplateError: the prompt is no beginning of the whole turn, so that the answer's tokens could not be
            told from the prompt's; or nothing follows an answer, so that no model would learn to stop.
    """
    asked: Turns = [{"role": "user", "content": QUESTION}]
    prompt = render(asked, generation=True)
    whole = render([*asked, {"role": "assistant", "content": ANSWER}], generation=False)
    if not whole.startswith(prompt):
        raise TemplateError(
            "does not write the prompt as the beginning of the whole turn, so the completion's tokens cannot "
            "be told from the prompt's"
        )
    before, found, after = whole[len(prompt) :].partition(ANSWER)
    if not found:
        raise TemplateError("leaves the answer out, so there is nothing to learn")
    if not after.strip():
        raise TemplateError("writes nothing after an answer, so no student would learn to stop")
    return Frame(before, after)


def manners(render: Render) -> Manners:
    """What the template does with system messages.

    Raises TemplateError where the template cannot be used at all (see `frame`).
    """
    frame(render)
    asked: Turns = [{"role": "user", "content": QUESTION}]
    plain, bare = prompt_text(render, asked, None), prompt_text(render, asked, NO_SYSTEM)
    if QUESTION not in plain:
        raise TemplateError("leaves the question out")
    try:
        told = prompt_text(render, asked, SYSTEM)
    except TemplateError as error:
        return Manners(_longer_by(plain, bare), str(error), always=False)
    if SYSTEM not in told:
        return Manners(_longer_by(plain, bare), "leaves it out without a word", always=False)
    # A text in the place of a default that an empty message brings back too is shorter than it, text aside.
    empty = told.replace(SYSTEM, "")
    always = len(bare) > len(empty)
    return Manners(_longer_by(plain, empty if always else bare), "", always)


def _longer_by(text: str, other: str) -> str:
    """What `text` has and `other` has not, between their common beginning and end."""
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
    """A setting of a system message, for tables."""
    if system is None:
        return "the chat template's own default"
    return "none" if system == NO_SYSTEM else f"“{system}”"
