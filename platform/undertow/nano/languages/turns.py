"""What a corpus is made of: turns of a user and an assistant, and the chats they add up to."""

from collections.abc import Iterable

Chat = list[dict[str, str]]  # as in a chat API: {"role": "system" | "user" | "assistant", "content": ...}
Turn = tuple[str, str]  # what the user says, what the assistant answers


def as_chat(turns: Iterable[Turn], system: str | None = None) -> Chat:
    """The turns as messages, after the system message if there is one."""
    opening = [] if system is None else [{"role": "system", "content": system}]
    return opening + [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]
