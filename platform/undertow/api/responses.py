"""Chat completions as servers send them, and the words of servers that send something else.

OpenAI-compatible servers differ in what the API's reference leaves open. Some send content as a list of
parts, of which the model's thinking is one; name finish reasons in their own way; send no counts of tokens;
or send errors with status 200, as JSON or as a web page.
"""

import html
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from undertow.api.retries import GarbageError

Result = TypeVar("Result")

# Finish reasons of a model that ended its answer itself, in lower case: OpenAI, vLLM, Gemini (stop),
# Anthropic, Bedrock (end_turn), text-generation-inference (eos_token, stop_sequence), Together (eos), Cohere
# (complete).
NATURAL_ENDS = frozenset({"stop", "stop_sequence", "end_turn", "eos", "eos_token", "end_of_text", "complete"})
# HTTP statuses of errors by their type in OpenAI's and Anthropic's APIs, for errors sent with status 200.
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
}
TEXT_PARTS = ("text", "output_text")
LONGEST_PAGE = 20_000  # characters of a web page that are searched for words
_UNSET: Any = object()
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z!][^>]*>")


@dataclass(frozen=True)
class Completion:
    """A model's answer to one item.

    Attributes:
        text: as received, including a refusal in the model's own words; None if the endpoint refuses the item
            (too long, or against its policy).
        finish: the API's finish reason: "stop", "length", "content_filter" …; "" if the server reports none.
        fingerprint: the provider's name for the configuration that answered; "" if it reports none.
        first: the log-probabilities (nats) of the likeliest first tokens of the answer, by their text; None
            if the server reports none.
    """

    text: str | None
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fingerprint: str = ""
    first: Mapping[str, float] | None = None

    @property
    def finished(self) -> bool:
        """Whether the model ended the answer itself. An unknown reason, or none, counts as a cut."""
        return self.finish.strip().lower() in NATURAL_ENDS


def completion_of(answer: Any) -> Completion:
    """The `Completion` of a chat completion response. Raises one of several errors if it is not one."""
    (choice,) = answer.choices
    message, usage = choice.message, getattr(answer, "usage", None)
    return Completion(
        text=_text(message.content) or _text(getattr(message, "refusal", None)),
        finish=str(getattr(choice, "finish_reason", None) or ""),
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
        fingerprint=str(getattr(answer, "system_fingerprint", None) or ""),
        first=_first(choice),
    )


def _first(choice: Any) -> Mapping[str, float] | None:
    """The log-probabilities of the first token and its alternatives; None without valid ones."""
    try:
        token = choice.logprobs.content[0]
        found = {entry.token: float(entry.logprob) for entry in (*token.top_logprobs, token)}
    except (AttributeError, IndexError, TypeError, ValueError):  # most answers have none
        return None
    return found if all(isinstance(text, str) for text in found) else None


def _text(content: object) -> str:
    """The text of a message's content: a string, null, one part, or a list of parts.

    Text parts are joined; other parts (thinking, reasoning, images) are left out. Raises TypeError for
    anything else.
    """
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            return "".join(_text(part) for part in content)
        case {"thought": True}:  # Gemini's mark of a thinking part
            return ""
        case {"type": "refusal", "refusal": words}:
            return _text(words)
        case {"type": str(kind)} if kind not in TEXT_PARTS:
            return ""
        case {"text": {"value": str(text)}} | {"text": None | str() as text}:
            return text or ""
    raise TypeError("the content is not text")


def _count(value: object) -> int:
    """A count of tokens; 0 if the server reports none."""
    return value if isinstance(value, int) and value > 0 else 0


async def parsed(what: str, call: Awaitable[Any], read: Callable[[Any], Result]) -> Result:
    """The result of `read` on the response to a call.

    Raises GarbageError, with the server's words, if the response is not a `what`; also the call's own errors.
    """
    response = _UNSET
    try:
        response = await call
        return read(response)
    except json.JSONDecodeError as error:
        response = error.doc
    except (ValueError, AttributeError, TypeError, IndexError) as error:
        # The openai library does not validate responses: a missing field surfaces as one of these errors.
        if response is _UNSET:
            # The library fails inside a call for a list that is answered with a web page: `obj` is the page.
            page = getattr(error, "obj", None)
            response = page if isinstance(page, str) else str(error)
        elif hasattr(response, "to_dict"):
            response = response.to_dict(warnings=False)
    raise _garbage(what, response)


def _garbage(what: str, response: Any) -> GarbageError:
    code = type_ = None
    for error in _errors(response):
        code = code or error.get("code") or error.get("status")
        type_ = type_ or error.get("type")
    number = int(str(code)) if re.fullmatch("[45][0-9]{2}", str(code)) else None
    status = number or STATUS_OF_TYPE.get(str(code)) or STATUS_OF_TYPE.get(str(type_))
    words = words_of(response)
    text = f"the response is not a {what}: {words}" if words else f"the response is not a {what}, but empty"
    spent = "insufficient_quota" in (code, type_)
    return GarbageError(text, status_code=status, code="insufficient_quota" if spent else None)


def words_of(body: Any) -> str:
    """What a server says in a response that is not the requested object, in one line; "" if it is empty.

    The error message in a JSON object, the text of a web page, else the response itself.
    """
    for error in _errors(body):
        for name in ("message", "detail", "error", "msg", "title"):
            if isinstance(text := error.get(name), str) and text.strip():
                return words_of(text)
    if not isinstance(body, str):
        return "" if body is None else json.dumps(body, ensure_ascii=False, default=str)
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict | list):
        return words_of(content)
    if body.lstrip().startswith("<"):
        body = html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", body[:LONGEST_PAGE])))
    return " ".join(body.split())


def _errors(body: Any) -> Iterator[Mapping[str, Any]]:
    """The JSON objects in a response that may describe an error, the most specific first."""
    if isinstance(body, list):
        for part in body[:1]:
            yield from _errors(part)
    if not isinstance(body, dict):
        return
    for name in ("error", "errors", "detail", "choices"):
        yield from _errors(body.get(name))
    yield body
