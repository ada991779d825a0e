"""The elements of a corpus: turns of a user and an assistant, and chats of one or more turns."""

from collections.abc import Iterable

Chat = list[dict[str, str]]  # as in a chat API: {"role": "system" | "user" | "assistant", "content": ...}
Turn = tuple[str, str]  # the user's message and the assistant's answer


def as_chat(turns: Iterable[Turn], system: str | None = None) -> Chat:
    """The turns as messages, after the system message if one is given."""
    opening = [] if system is None else [{"role": "system", "content": system}]
    return opening + [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]
