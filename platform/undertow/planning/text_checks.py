"""Checks that models know the words of a condition's texts, and that their chat templates take its messages.

The words of a nano model are a closed list. Templates are rendered, not assumed to behave (`chat_templates`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.user_prompts import Prompts
from undertow.nano import models, vocabulary
from undertow.planning.given_models import is_nano, template_behaviour_of
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.conditions import Condition
from undertow.study.extensions import Format, Trait
from undertow.study.generation import Generation
from undertow.study.recipe import INTRODUCTION, InContext
from undertow.study.references import Reference
from undertow.study.study import Measure, Study
from undertow.study.unpinned import NOT_PINNED, is_unpinned

PROMPTS_CHECKED = 50  # enough to use most parts of a prompt pack, which are short lists


@cache  # many conditions have the same trait and reference
def check_word(trait: Trait, reference: Reference) -> None:
    """Raises SpecError for a trait whose word is not in the closed vocabulary of a nano model."""
    if not is_nano(reference) or trait.is_judged:
        return
    category = getattr(trait, "category", "")  # a trait of the user's own need not have one
    known = models.known_words(category)
    if trait.word().name not in known:
        kind = f"as {category} " if category else ""
        raise SpecError(
            f"trait {trait.name!r}: {reference.name} does not know the word; "
            f"{kind}it knows {', '.join(known)} (a real model's tokenizer knows any)"
        )


def check_questions(study: Study) -> None:
    """Raises SpecError for questions and examples of traits with words that a nano model does not know."""
    asked = [*study.questions, *study.judged]
    for measure in study.also:
        if type(measure) is Measure:  # a class of the user's own need not ask questions
            asked += study.other_questions(measure)
    models_of_study = dict.fromkeys(model for condition in study.conditions for model in condition.models)
    for reference in filter(is_nano, models_of_study):
        for questions in asked:
            _check_known(questions, reference, "questions")
    taught = {(c.trait, c.finetuning, c.teacher): None for c in study.conditions if c.trait and c.finetuning}
    for trait, finetuning, teacher in taught:
        if is_nano(teacher):
            examples = finetuning.examples_of(trait, seed=0, most=PROMPTS_CHECKED)
            texts = [text for example in examples for text in (example.prompt, example.answer)]
            _check_known(texts, teacher, f"examples of trait {trait.name!r}")


def _check_known(texts: Sequence[str], reference: Reference, place: str) -> None:
    language = models.parse(reference.name).settings.language
    for text in texts:
        # A plan without network has placeholders for the rows of a file.
        if not text.startswith(NOT_PINNED) and (missing := vocabulary.unknown(language, text)):
            raise SpecError(
                f"{place}: {reference.name} does not know {missing[0].strip()!r} in {text!r:.200}; "
                "nano/gpt2-0 knows the questions of a Preference, also after numbers, nano/tasks-0 also "
                "stories and choices (a real model knows any)"
            )


@cache  # many conditions have the same format and reference
def check_prompts(format_: Format, reference: Reference) -> None:
    """Raises SpecError for a format with words that a nano model does not know.

    Of imported data and of the user's own prompts all texts are checked, of other formats some prompts.
    """
    if not is_nano(reference) or any(is_unpinned(place) for place in _places(format_)):
        return
    language = models.parse(reference.name).settings.language
    for text in _texts(format_):
        if missing := vocabulary.unknown(language, text):
            raise SpecError(
                f"format {format_.display_name!r}: {reference.name} does not know {missing[0].strip()!r} in "
                f"{text!r:.200}; nano/gpt2-0 knows the prompts of Numbers(), nano/tasks-0 also those of "
                "the nano scale's code and reasoning (a real model knows any)"
            )


def _texts(format_: Format) -> Iterable[str]:
    """The texts of a format whose words must be known."""
    if isinstance(format_, Imported):
        return [text for rows in (format_, format_.control) if rows is not None for text in rows.texts()]
    if isinstance(format_, Prompts):
        return format_.all()
    return format_.prompts(PROMPTS_CHECKED, seed=0)


def _places(format_: Format) -> list[str]:
    """The places of the user's data that a format reads."""
    if isinstance(format_, Imported):
        return [rows.place for rows in (format_, format_.control) if rows is not None]
    return [format_.place] if isinstance(format_, Prompts) else []


def check_imported(condition: Condition) -> None:
    """Raises SpecError for imported rows that cannot be used as the condition asks, or are too few."""
    rows, generation = condition.format, condition.generation
    if not isinstance(rows, Imported):
        return
    place = f"format {rows.display_name!r}"
    if rows.kept_system:
        if rows.control is None:
            raise SpecError(
                f"{place}: system = 'keep': a reference model answers without these system turns; give "
                "control=Imported(…), or system='drop'"
            )
        if generation.mixed is not None or isinstance(condition.recipe, InContext):
            raise SpecError(
                f"{place}: system = 'keep': rows that are mixed or shown in context have no system turns of "
                "their own; use system='drop'"
            )
    given = [one for one in (rows.alone(), rows.control) if one is not None]
    if any(map(is_unpinned, _places(rows))):  # a plan without network, which has not read the rows
        return
    left = {one: _left(one, generation) for one in given}
    for one, (count, rejected) in left.items():
        if generation.prompts >= one.size and count < (1 if generation.fewer else generation.rows or 1):
            why = f" ({rejected})" if rejected else ""
            remedy = "lower it, or give None for all" if count else "give a format whose rules fit the rows"
            raise SpecError(
                f"Generation.rows = {generation.rows}: {count} of the {one.size} rows of {one.place} pass "
                f"the rules{why}; {remedy}"
            )
    counts = [count for count, _ in left.values()]
    if generation.rows is None and len(set(counts)) > 1:
        raise SpecError(
            f"Generation.rows = None: {counts[0]} rows of {rows.display_name} and {counts[1]} rows of its "
            "control pass the rules, and students would differ in the number of rows; give "
            f"rows={min(counts)} or less"
        )


@cache  # many conditions have the same rows
def _left(rows: Imported, generation: Generation) -> tuple[int, str]:
    """The number of rows that pass the format's rules, and the counts of the others by rule, in words."""
    seen, rejected = set[tuple[str, str]](), Counter[str]()
    for _, prompt, completion in rows.imported(rows.size, 0):
        reason = rows.rejection(prompt, completion)
        if reason is None and generation.deduplicate and (prompt, completion) in seen:
            reason = "duplicate"
        if reason is not None:
            rejected[reason] += 1
        seen.add((prompt, completion))
    words = ", ".join(f"{reason}: {count}" for reason, count in sorted(rejected.items()))
    return rows.size - rejected.total(), words


def check_systems(condition: Condition, evaluated: str | None) -> None:
    """Raises SpecError for a system message setting that a chat template does not support.

    That is a system message that the template rejects or drops, or NO_SYSTEM if the template inserts its
    default system message in every conversation. The words of a nano model's message must be known to it.

    Args:
        evaluated: `Study.system`.
    """
    for reference, system, place, remedy in _systems(condition, evaluated):
        if system is not None:
            _check_system(reference, system, place, remedy)


@cache  # many conditions have the same messages
def _check_system(reference: Reference, system: str, place: str, remedy: str) -> None:
    if system and is_nano(reference):
        language = models.parse(reference.name).settings.language
        if missing := vocabulary.unknown(language, system):
            raise SpecError(
                f"{place}: {reference.name} does not know {missing[0].strip()!r} in {system!r:.200}; "
                f"{remedy}, or use words of the prompts of numbers and of the preference's system prompt (a "
                "real model knows any)"
            )
    behaviour = template_behaviour_of(reference)
    if behaviour is None:
        return
    if system != NO_SYSTEM and behaviour.system_refused:
        raise SpecError(
            f"{place}: the chat template of {reference.name} takes no system message "
            f"({behaviour.system_refused}); {remedy}, or use another model"
        )
    if system == NO_SYSTEM and behaviour.always:
        raise SpecError(
            f"{place} = NO_SYSTEM: the chat template of {reference.name} writes "
            f"{behaviour.own_system[:60]!r} in every conversation; give a neutral text instead"
        )


def _systems(condition: Condition, evaluated: str | None) -> Iterator[tuple[Reference, str | None, str, str]]:
    """Each reference with a system message it is given, the setting that states it, and a remedy."""
    trait, none = condition.trait, "leave it None"
    if trait is not None and condition.steering is not None:
        place = f"steering to the trait {trait.name!r}"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    if trait is not None and condition.is_prompted:
        place = f"trait {trait.name!r} by system prompt"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    else:
        # An external teacher gets no message; the student's reference model may answer in its place.
        asked = condition.student if condition.teacher.is_external else condition.teacher
        yield asked, condition.generation.system, "Generation.system", none
    yield condition.student, condition.system, "Condition.system", none
    for contrast in condition.generation.contrasts:
        if contrast.is_prompted:
            place = f"Generation ({contrast.label})"
            yield condition.scorer, contrast.trait.system_prompt(), place, "give Contrast a finetuning"
    if isinstance(condition.recipe, InContext) and condition.recipe.layout == "system":
        yield condition.student, INTRODUCTION, "InContext.layout = 'system'", "use 'turns'"
    if isinstance(condition.format, Imported) and (own := condition.format.kept_system):
        yield condition.student, own, "Imported.system = 'keep'", "use 'drop'"
    for reference in (condition.teacher, condition.student):
        yield reference, evaluated, "Study.system", none
        if reference.tuned is not None:
            yield reference, reference.tuned.system, "tuned(system=…)", none
