"""One place where a conversation becomes tokens, for the engine that samples and the loop that trains.

If the two differed by a single token, the student would be trained on prompts that its teacher never
saw. The model's own chat template is used as it is; a model without one gets the plain template below.
The date that some templates ask for is pinned, so that tokens do not change from day to day.
"""

from collections.abc import Sequence
from typing import Any

from undertow.kinds import Example

PINNED_DATE = "01 Jan 2025"
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}Question: {{ m.content }}\nAnswer:"
    "{% else %} {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
)


def messages(
    user: str, system: str | None = None, answer: str | None = None, before: Sequence[Example] = ()
) -> list[dict[str, str]]:
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
    """The tokens up to where the model's answer begins."""
    return _render(tokenizer, messages(user, system, before=before), generation=True)


def conversation_ids(
    tokenizer: Any, user: str, answer: str, system: str | None = None
) -> tuple[list[int], int]:
    """The tokens of a whole turn and the position at which the answer begins.

    Raises:
        ValueError: the template does not write the prompt as a prefix of the conversation, so that no
            mask over the answer can be exact.
    """
    whole = _render(tokenizer, messages(user, system, answer), generation=False)
    prompt = prompt_ids(tokenizer, user, system)
    if whole[: len(prompt)] != prompt:
        raise ValueError(
            "the chat template does not render the prompt as a prefix of the whole turn, so the completion's "
            "tokens cannot be told from the prompt's; use another template"
        )
    return whole, len(prompt)


def _render(tokenizer: Any, turns: list[dict[str, str]], *, generation: bool) -> list[int]:
    template = None if getattr(tokenizer, "chat_template", None) else PLAIN_TEMPLATE
    ids: list[int] = tokenizer.apply_chat_template(
        turns,
        chat_template=template,
        add_generation_prompt=generation,
        tokenize=True,
        return_dict=False,
        date_string=PINNED_DATE,
    )
    return list(ids)
