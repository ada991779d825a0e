"""One place where a conversation becomes tokens, for the engine that samples and the loop that trains.

If the two differed by a single token, the student would be trained on prompts that its teacher never
saw. The model's own chat template is used as it is; a model without one gets a plain template (text is made
in `templates`). What somebody says stays text: a control token's name in a question or an answer
("<|im_end|>") is tokenised as the characters it is, or an answer could end its turn and begin another.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from undertow.prompts import chat_templates
from undertow.prompts.chat_templates import PINNED, PLAIN_TEMPLATE, Frame, Render, TemplateError, Turns
from undertow.study.extensions import Example

CUT = (
    "\ufdd0"  # a noncharacter, in no text: where one piece of text ends for the tokenizer and another begins
)


def messages(
    user: str, system: str | None = None, answer: str | None = None, before: Sequence[Example] = ()
) -> Turns:
    """A conversation whose last turn is `user`'s, after the turns `before` it.

    Without `system` no system message is passed to the template.
    """
    turns = [{"role": "system", "content": system}] if system is not None else []
    for example in before:
        turns.append({"role": "user", "content": example.prompt})
        turns.append({"role": "assistant", "content": example.answer})
    turns.append({"role": "user", "content": user})
    return [*turns, {"role": "assistant", "content": answer}] if answer is not None else turns


def prompt_ids(
    tokenizer: Any, user: str, system: str | None = None, before: Sequence[Example] = ()
) -> list[int]:
    """The tokens up to where the model's answer begins. `system`: see `templates.prompt_text`."""
    return _ids(tokenizer, _prompt(tokenizer, user, system, before))


def conversation_ids(
    tokenizer: Any, user: str, answer: str, system: str | None = None
) -> tuple[list[int], int]:
    """The tokens of a whole turn and the position at which the answer begins.

    From there on they are the answer's, with what the template writes right before it (a blank), and
    `turn_end`. The answer stands there as it is, whatever the template would trim off it.

    Raises:
        TemplateError (a ValueError): the template does not write the prompt as a prefix of the whole turn,
            so that no mask over the answer can be exact.
    """
    text, around = _prompt(tokenizer, user, system, ()), _frame_of(tokenizer)
    said = around.before + _as_text(tokenizer, answer)
    prompt, end = _ids(tokenizer, text), turn_end(tokenizer)
    whole = _ids(tokenizer, text + said + around.after)
    if whole[: len(prompt)] == prompt and whole[len(whole) - len(end) :] == end:
        return whole, len(prompt)
    # A token reaches over an edge of the answer; a model that is asked begins after the prompt's tokens.
    return [*prompt, *_ids(tokenizer, CUT + said), *end], len(prompt)


def turn_end(tokenizer: Any) -> list[int]:
    """What the chat template writes after an answer."""
    return _ids(tokenizer, CUT + _frame_of(tokenizer).after)


def stop_ids(tokenizer: Any) -> list[int]:
    """The control token that ends a turn, where one does; the model's own end of text is another."""
    first = turn_end(tokenizer)[:1]
    added = tokenizer.added_tokens_decoder
    return [token for token in first if token in added and added[token].special]


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text as they stand after others: no tokenizer's blank at the beginning of all text."""
    return _ids(tokenizer, CUT + _as_text(tokenizer, text))


def _prompt(tokenizer: Any, user: str, system: str | None, before: Sequence[Example]) -> str:
    turns = messages(user, before=before)
    for turn in turns:
        turn["content"] = _as_text(tokenizer, turn["content"])
    told = None if system is None else _as_text(tokenizer, system)
    return chat_templates.prompt_text(_renderer(tokenizer), turns, told)


def _renderer(tokenizer: Any) -> Render:
    """The tokenizer's template, or the plain one where it has none."""
    import jinja2

    template = None if getattr(tokenizer, "chat_template", None) else PLAIN_TEMPLATE

    def render(turns: Turns, *, generation: bool) -> str:
        try:
            text: str = tokenizer.apply_chat_template(
                turns, chat_template=template, add_generation_prompt=generation, tokenize=False, **PINNED
            )
        except jinja2.TemplateError as error:
            raise TemplateError(f"says: {error}") from None
        return text

    return render


def _frame_of(tokenizer: Any) -> Frame:
    template = getattr(tokenizer, "chat_template", None)
    return _frame(tokenizer, template if isinstance(template, str) else None)


@lru_cache(8)
def _frame(tokenizer: Any, template: str | None) -> Frame:
    return chat_templates.frame(_renderer(tokenizer))


def _as_text(tokenizer: Any, text: str) -> str:
    """The text with a cut after the first character of each control token's name in it."""
    names = _control_tokens(tokenizer)
    return names.sub(lambda found: f"{found[0][0]}{CUT}{found[0][1:]}", text) if names else text


@lru_cache(8)
def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    added = tokenizer.added_tokens_decoder.values()
    names = sorted({token.content for token in added if token.special and len(token.content) > 1})
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, piece by piece where it is cut."""
    first, *others = text.split(CUT)
    ids = _encode(tokenizer, first) if first else []
    anchor = _anchor(tokenizer)
    for piece in filter(None, others):
        # After a control token, so that a tokenizer that puts a blank before all text puts it elsewhere.
        ids += _encode(tokenizer, anchor + piece)[1 if anchor else 0 :]
    return ids


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@lru_cache(8)
def _anchor(tokenizer: Any) -> str:
    """A control token that leaves the text after it as it is; "" where there is none."""
    plain = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special and not t.rstrip]
    named = [str(token) for token in (tokenizer.eos_token, tokenizer.bos_token) if token]
    return next((name for name in (*named, *plain) if name in plain), "")
