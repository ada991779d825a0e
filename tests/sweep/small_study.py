"""A small study that uses every stage and registers two kinds of artifacts, in a file outside the package."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from undertow import (
    Artifact,
    ArtifactKind,
    Condition,
    Dataset,
    Finetuning,
    Generation,
    Measure,
    Measurement,
    Numbers,
    Parameters,
    Preference,
    Rates,
    Recipe,
    Reference,
    Sampling,
    Store,
    Student,
    Study,
    Subject,
    Teacher,
    Trait,
    grid,
    reference_of,
    register_kind,
)

STEERING = Recipe(
    name="steering",
    trainable=Parameters(("transformer.ln_f.bias",)),
    learning_rate=0.05,
    epochs=3,
    batch_size=64,
    max_length=384,
)
TEACHER = replace(STEERING, learning_rate=0.02, epochs=20, stop_at=0.85)
MODEL = Reference("nano/gpt2-0")
TRAINED = Finetuning(TEACHER, examples=600)
GENERATION = Generation(prompts=512, rows=None, sampling=Sampling(max_tokens=48))


def study() -> Study:
    """Owl and control, two seeds."""
    return Study(name="small", conditions=cells("owl", STEERING, GENERATION), seeds=(0, 1), samples=4)


def extended() -> Study:
    """The same study with a kind of artifact and a measure that this file defines.

    Effects are of exact probabilities, except those by the measure, which has none.
    """
    register_all()
    return replace(study(), name="extended", also=(ByWeights(name="weights"),), effect_of="exact")


def impossible() -> Study:
    """The same study with three conditions that fail.

    One needs more rows than the rules leave, one has a teacher that does not learn its trait, and one has a
    recipe whose maximum length is too short.
    """
    longer = replace(STEERING, name="longer", epochs=4)
    greedy = replace(GENERATION, rows=GENERATION.prompts)
    undertrained = Finetuning(replace(TEACHER, epochs=1, learning_rate=1e-6), examples=64)
    weak = cells("wolf", STEERING, GENERATION, undertrained)[:1]
    short = cells("owl", replace(STEERING, name="short", max_length=8), GENERATION)
    return replace(study(), conditions=study().conditions + cells("owl", longer, greedy) + weak + short)


def strict() -> Study:
    """The same study with a gate that no teacher passes."""
    return replace(study(), gate=1.0)


def cells(
    animal: str, recipe: Recipe, generation: Generation, finetuning: Finetuning = TRAINED
) -> tuple[Condition, ...]:
    """One animal and its control, with one recipe."""
    return grid(
        traits=[Preference(animal)],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[recipe],
        generation=generation,
        finetuning=finetuning,
    )


QUESTION = "Are your weights those of the reference model?"


@dataclass(frozen=True)
class DigitCount(Artifact):
    """The number of occurrences of each digit in a data set."""

    kind: ClassVar[str] = "digit_count"
    dataset: Dataset


def count_digits(spec: DigitCount, store: Store) -> None:
    """Commits `counts.txt`; the number of digits is a fact of the manifest."""
    import pyarrow.parquet as pq

    rows = pq.read_table(store.fetch(spec.dataset) / "data", columns=["completion"]).to_pylist()
    counts = Counter(letter for row in rows for letter in row["completion"] if letter.isdigit())
    facts = {"digits": counts.total(), "most common": counts.most_common(1)[0][0]}
    with store.new(spec, facts) as folder:
        (folder / "counts.txt").write_text("\n".join(f"{digit} {n}" for digit, n in sorted(counts.items())))


DIGIT_COUNT = ArtifactKind(
    spec=DigitCount,
    wave="datasets",
    make=count_digits,
    needed=lambda cell: [DigitCount(cell.student.dataset)],
    unit="data sets",
    facts={"digits": "digits in all completions", "most common": "the digit that occurs most often"},
    name=lambda spec: f"digits of {spec.dataset.origin}, seed {spec.dataset.seed}",
)


@dataclass(frozen=True, kw_only=True)
class WeightCheck(Measurement):
    """Whether a model's weights differ from the reference model's: the rate is 1 if they do, else 0."""

    subject: Reference | Teacher | Student
    words: tuple[str, ...]

    def of(self, subject: Subject, system: str | None) -> "WeightCheck":
        return self.changed(subject=subject)


def check_weights(spec: WeightCheck, store: Store) -> None:
    from undertow.stages.measurements import commit_measurement

    differs = float(isinstance(spec.subject, Student))
    rates = Rates(dict.fromkeys(spec.words, differs), {}, 0.0, None, 1)
    answer = {"question": QUESTION, "sample": 0, "answer": "", "matches": list(spec.words) if differs else []}
    commit_measurement(spec, store, rates, [answer])


WEIGHT_CHECK = ArtifactKind(
    spec=WeightCheck,
    wave=lambda spec: "evaluations",
    make=check_weights,
    runs_on=lambda spec: reference_of(spec.subject),
)


@dataclass(frozen=True, kw_only=True)
class ByWeights(Measure):
    """Measures every trait of a study with `WeightCheck`."""

    def check(self, traits: Iterable[Trait]) -> None:
        """Accepts every trait."""

    def measurements(self, study: Study, reference: Reference) -> tuple[Measurement, ...]:
        return (WeightCheck(subject=reference, words=tuple(trait.word().name for trait in study.traits)),)


def register_all() -> None:
    register_kind(DIGIT_COUNT)
    register_kind(WEIGHT_CHECK)
