"""Converts conversations to tokens, for both the engine that samples and the loop that trains.

If the two differed by a single token, a student would be trained on prompts that its teacher never saw. The
model's own chat template is used, or a plain template for a model without one (`chat_templates` renders the
text). The content of a turn remains text: the name of a control token in it ("<|im_end|>") is tokenized as
plain characters. Otherwise an answer could end its turn and start another one.
"""

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from undertow.errors import ConditionError
from undertow.prompts import chat_templates
from undertow.prompts.chat_templates import (
    PINNED,
    PLAIN_TEMPLATE,
    QUESTION,
    Frame,
    Render,
    TemplateError,
    Turns,
)
from undertow.study.extensions import Example

# A Unicode noncharacter, which no text contains: separates pieces to be tokenized on their own.
CUT = "\ufdd0"
PROMPTS_KEPT = 100_000  # rendering a prompt costs as much as a few tokens, and models share their prompts


def messages(
    user: str, system: str | None = None, answer: str | None = None, before: Sequence[Example] = ()
) -> Turns:
    """The turns of a conversation: `system`, if not None, then the examples `before`, `user` and `answer`."""
    turns = [{"role": "system", "content": system}] if system is not None else []
    for example in before:
        turns.append({"role": "user", "content": example.prompt})
        turns.append({"role": "assistant", "content": example.answer})
    turns.append({"role": "user", "content": user})
    return [*turns, {"role": "assistant", "content": answer}] if answer is not None else turns


def prompt_ids(
    tokenizer: Any, user: str, system: str | None = None, before: Sequence[Example] = ()
) -> list[int]:
    """The tokens up to the position where the model's answer begins.

    For `system` see `chat_templates.prompt_text`.
    """
    _, ids = _prompt(tokenizer, _template(tokenizer), user, system, tuple(before))
    return list(ids)


def conversation_ids(
    tokenizer: Any, user: str, answer: str, system: str | None = None
) -> tuple[list[int], int]:
    """The tokens of a question and its answer, and the index of the first token of the answer.

    The tokens from there on are those of the text that the template writes before an answer (a space), of the
    answer, and of `turn_end`. The answer is not trimmed, even if the template would trim it.

    Raises:
        TemplateError (a ValueError): the template does not write the prompt as a prefix of the whole turn,
            so that no mask over the answer can be exact.
    """
    template = _template(tokenizer)
    prompt_text, ids = _prompt(tokenizer, template, user, system, ())
    frame, prompt, end = _frame(tokenizer, template), list(ids), turn_end(tokenizer)
    answer_text = frame.before + _as_text(tokenizer, answer)
    whole = _document_ids(tokenizer, prompt_text + answer_text + frame.after)
    if whole[: len(prompt)] == prompt and whole[len(whole) - len(end) :] == end:
        return whole, len(prompt)
    # A token spans the boundary between prompt and answer or answer and end. At sampling time a model starts
    # after the prompt's tokens, so the three parts are tokenized on their own.
    return [*prompt, *_ids(tokenizer, CUT + answer_text), *end], len(prompt)


def turn_end(tokenizer: Any) -> list[int]:
    """The tokens that the chat template writes after an answer."""
    return list(_turn_end(tokenizer, _template(tokenizer)))


@lru_cache(8)
def _turn_end(tokenizer: Any, template: str | None) -> tuple[int, ...]:
    return tuple(_ids(tokenizer, CUT + _frame(tokenizer, template).after))


def stop_ids(tokenizer: Any) -> list[int]:
    """The control token that ends a turn, if any, in addition to the model's own end tokens.

    It is the first one that the template writes after an answer; a line break may precede it.
    """
    added = tokenizer.added_tokens_decoder
    return [token for token in turn_end(tokenizer) if token in added and added[token].special][:1]


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text in the middle of other text, without the space that some tokenizers put first."""
    return _ids(tokenizer, CUT + _as_text(tokenizer, text))


@lru_cache(PROMPTS_KEPT)
def _prompt(
    tokenizer: Any, template: str | None, user: str, system: str | None, before: tuple[Example, ...]
) -> tuple[str, "array[int]"]:
    """The text and the tokens of a prompt. `template`: the tokenizer's, which can change."""
    turns = messages(user, before=before)
    for turn in turns:
        turn["content"] = _as_text(tokenizer, turn["content"])
    system_text = None if system is None else _as_text(tokenizer, system)
    text = chat_templates.prompt_text(_renderer(tokenizer), turns, system_text)
    _check_answers(text, [turn["content"] for turn in turns[1::2]])
    return text, array("I", _document_ids(tokenizer, text))


def _check_answers(prompt: str, answers: Sequence[str]) -> None:
    """Raises ConditionError unless a prompt has all earlier answers, in their order.

    White space at the ends of an answer is ignored, because some templates trim it. Others leave out the
    thoughts of earlier answers (Qwen3).
    """
    place = 0
    for answer in answers:
        place = prompt.find(answer.strip(), place)
        if place < 0:
            raise ConditionError(
                f"the chat template leaves out a part of the earlier answer {answer.replace(CUT, '')!r:.80}; "
                "use InContext(layout='system'), or another model"
            )
        place += len(answer.strip())


def _renderer(tokenizer: Any) -> Render:
    """The tokenizer's template, or the plain one if it has none."""
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


def _template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    return template if isinstance(template, str) else None


@lru_cache(8)
def _frame(tokenizer: Any, template: str | None) -> Frame:
    return chat_templates.frame(_renderer(tokenizer))


def _as_text(tokenizer: Any, text: str) -> str:
    """The text with `CUT` inside each control token's name, so that it is tokenized as plain characters."""
    names = _control_tokens(tokenizer)
    return names.sub(lambda found: f"{found[0][0]}{CUT}{found[0][1:]}", text) if names else text


@lru_cache(8)
def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special and len(token.content) > 1}
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _document_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text from its beginning, with those that the tokenizer itself puts before a text.

    A chat template writes such tokens itself ("<s>"), so the tokenizer's are added for base models only.
    """
    if getattr(tokenizer, "chat_template", None):
        return _ids(tokenizer, text)
    return [*_prefix(tokenizer), *_ids(tokenizer, text)]


@lru_cache(8)
def _prefix(tokenizer: Any) -> tuple[int, ...]:
    """The control tokens that the tokenizer's post-processor puts before every text.

    The tokenizers of Llama 3, Gemma and Mistral do so. Tokens that one puts after a text are left out: they
    would end the text before its answer.
    """
    whole, bare = tokenizer.encode(QUESTION), _encode(tokenizer, QUESTION)
    added = len(whole) - len(bare)
    before = next((size for size in range(added + 1) if whole[size : size + len(bare)] == bare), 0)
    return tuple(whole[:before])


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, whose pieces between cuts are tokenized separately."""
    first, *others = text.split(CUT)
    ids = _encode(tokenizer, first) if first else []
    anchor = _anchor(tokenizer)
    for piece in filter(None, others):
        # A tokenizer that prepends a space to every text puts it before the anchor, whose token is removed.
        ids += _encode(tokenizer, anchor + piece)[1 if anchor else 0 :]
    return ids


def _encode(tokenizer: Any, text: str) -> list[int]:
    """`tokenizer.encode(text, add_special_tokens=False)`, in half the time where that is possible."""
    backend = _backend(tokenizer)
    if backend is None or tokenizer.split_special_tokens:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    else:
        # Settings of an earlier call, which transformers leaves behind and resets at the next one.
        backend.encode_special_tokens = False
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        ids = backend.encode(text, add_special_tokens=False).ids
    return ids


@lru_cache(8)
def _backend(tokenizer: Any) -> Any:
    """The tokenizer of the library tokenizers below transformers'; None if the latter does more than call it.

    For one short text, transformers' checks and conversions take as long as the tokenization.
    """
    own: Any = type(tokenizer)
    # By its name, because this folder does not import transformers.
    plain = next((base for base in own.__mro__ if base.__name__ == "TokenizersBackend"), None)
    is_plain = plain and own._encode_plus is plain._encode_plus and own.encode is plain.encode
    return tokenizer.backend_tokenizer if is_plain else None


@lru_cache(8)
def _anchor(tokenizer: Any) -> str:
    """A control token that does not strip the text after it; "" if there is none."""
    plain = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special and not t.rstrip]
    named = [str(token) for token in (tokenizer.eos_token, tokenizer.bos_token) if token]
    return next((name for name in (*named, *plain) if name in plain), "")
