"""Checks of traits, formats and judges that a user defined: whether their methods return what they must.

A sweep calls these methods in other processes, hours after the study file was read. The checks call them when
the study is defined, so that an error is reported with the line of the user's code before anything runs. The
replies and rejections of a model's answers are checked at every call (`reply_of`, `rejection_of`).
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from undertow.errors import ConditionError, SpecError, UserError, last_line
from undertow.study.class_source import PACKAGE
from undertow.study.extensions import Example, Format, Judge, Trait, Word
from undertow.study.fields import Spec, class_of, inner_fields
from undertow.study.teachers import Finetuning

CALLED_FOR = 20  # prompts and examples


def check_extensions(*specs: Spec | None) -> None:
    """Raises SpecError for a user's trait or format, at any depth, whose methods return a wrong result.

    Judges are not called: they may rely on the rules of the format, which the rows that they see have passed.
    """
    for spec in specs:
        for part in _parts(spec) if spec is not None else ():
            _check(part)


@cache  # many conditions have the same trait and format
def _check(part: Spec) -> None:
    if isinstance(part, Trait):
        _check_trait(part)
    elif isinstance(part, Format):
        _check_format(part)


@cache  # thousands of conditions have the same examples
def check_examples(trait: Trait, finetuning: Finetuning) -> None:
    """Raises SpecError if a user's trait, at any depth, lacks the examples that a teacher is finetuned on."""
    count = min(CALLED_FOR, finetuning.examples)
    method = "examples" if finetuning.questions == "other" else "evaluation_examples"
    for part in _parts(trait):
        if isinstance(part, Trait):
            found = finetuning.examples_of(part, seed=0, most=count)
            again = finetuning.examples_of(part, seed=0, most=count)
            _check_found(found, again, count, f"{type(part).__name__}.{method}({count}, seed=0)")


def _check_found(found: object, again: object, count: int, place: str) -> None:
    if not isinstance(found, (list, tuple)) or not all(isinstance(example, Example) for example in found):
        raise SpecError(f"{place} returned {found!r:.200}; it must return a list of Example")
    if len(found) != count:
        raise SpecError(
            f"{place} returned {len(found)} examples; it must return as many as are asked for (repeat them "
            "if there are fewer)"
        )
    if found != again:
        raise SpecError(
            f"{place} returned other examples when it was called again; draw them from random.Random(seed)"
        )


def reply_of(judge: Judge, prompt: str, completion: str) -> str:
    """A judge's own reply to a row. Raises SpecError if it is not a string."""
    reply = _called(judge, "reply", prompt, completion)
    if not isinstance(reply, str):
        raise SpecError(f"{type(judge).__name__}.reply returned {reply!r:.200}; it must return a text")
    return reply


def rejection_of(rule: Format | Judge, *texts: str) -> str | None:
    """Why a format rejects a completion (`texts`: prompt, completion), or a judge a row (its reply); or None.

    Raises SpecError if the reason is neither a text nor None.
    """
    reason = _called(rule, "rejection", *texts)
    if reason is not None and not (isinstance(reason, str) and reason):
        raise SpecError(
            f"{type(rule).__name__}.rejection returned {reason!r:.200}; it must return the name of the rule "
            "that rejects the text, or None to keep it"
        )
    return reason


def _called(rule: Format | Judge, method: str, *texts: str) -> Any:
    """What a method returns. An error in it is raised again with its name and the text that it failed on."""
    try:
        return getattr(rule, method)(*texts)
    except (UserError, ConditionError):
        raise
    except Exception as error:
        raise RuntimeError(
            f"{type(rule).__name__}.{method} failed for {texts[-1]!r:.200}: {type(error).__name__}: "
            f"{last_line(error)}"
        ) from error


def _check_trait(trait: Trait) -> None:
    name = type(trait).__name__
    questions: object = trait.questions()
    if not isinstance(questions, tuple) or not questions or not all(map(_is_text, questions)):
        raise SpecError(
            f"{name}.questions() returned {questions!r:.200}; it must return a tuple of texts, such as "
            '("Which is your favourite?",)'
        )
    if not isinstance(word := trait.word(), Word):
        raise SpecError(f"{name}.word() returned {word!r:.200}; it must return a Word")


def _check_format(format_: Format) -> None:
    name = type(format_).__name__
    if not _is_text(getattr(format_, "name", None)):
        raise SpecError(f'{name} has no name; give it one, such as name: ClassVar[str] = "letters"')
    place = f"{name}.prompts({CALLED_FOR}, seed=0)"
    prompts: object = format_.prompts(CALLED_FOR, seed=0)
    if not isinstance(prompts, (list, tuple)) or not all(map(_is_text, prompts)):
        raise SpecError(f"{place} returned {prompts!r:.200}; it must return a list of texts")
    if len(prompts) < CALLED_FOR:
        raise SpecError(
            f"{place} returned {len(prompts)} prompts; it must return as many as are asked for (repeat them "
            "if there are fewer)"
        )
    if prompts != format_.prompts(CALLED_FOR, seed=0):
        raise SpecError(
            f"{place} returned other prompts when it was called again, and all teachers must get the same; "
            "draw them from random.Random(seed)"
        )
    for completion in ("", prompts[0]):  # a model may answer both
        rejection_of(format_, prompts[0], completion)


@cache
def _parts(spec: Spec) -> tuple[Spec, ...]:
    """The specs of user-defined classes among a spec and those in its fields, the inner ones first."""
    return tuple(dict.fromkeys(part for part in _nested(spec) if _is_users(part)))


def _nested(spec: Spec) -> Iterator[Spec]:
    for name in inner_fields(class_of(spec)):
        value = getattr(spec, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Spec):
                yield from _nested(part)
    yield spec


def _is_users(spec: Spec) -> bool:
    return type(spec).__module__.partition(".")[0] != PACKAGE


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
