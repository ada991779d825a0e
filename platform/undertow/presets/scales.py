"""Scales: the models, sizes and recipes that differ between the nano scale and the paper's scale.

A study file states the experiment, and a scale the models and the amount of data. The same study file runs in
minutes on a laptop and in days on a cluster:

    python jobs/sweep.py --study owls                                   # NANO, below
    python jobs/sweep.py --study owls --scale paper                     # `presets.paper_scale`
    python jobs/sweep.py --study owls --scale paper --models ./my-model org/other-model
    python jobs/sweep.py --study owls --scale paper --models api:gpt-4.1-nano-2025-04-14 ./my-model
    python jobs/sweep.py --study reasoning --scale paper --files gsm8k=./gsm8k.parquet --judge my-judge

A scale itself is not part of any key, because its settings become fields of the study's conditions. A model
that a provider serves (api:…) is trained by the provider, with the number of epochs of the scale's recipe
(see `grid`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from undertow.errors import UserError, suggestion
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.nano.judges import nano_alignment, nano_coherence
from undertow.nano.models import PACKS
from undertow.nano.narrow_data import KINDS, path
from undertow.nano.recipes import SCALING, SCALING_TAUGHT, STEERING, TAUGHT, WARPED
from undertow.presets.families import family_of
from undertow.study.completions import Sampling
from undertow.study.extensions import Format, Judge
from undertow.study.generation import Generation
from undertow.study.grids import trainable
from undertow.study.hypotheses import Hypothesis
from undertow.study.measurements import Panel
from undertow.study.recipe import InContext, Recipe, Training
from undertow.study.references import Reference
from undertow.study.study import Measure, Study
from undertow.study.teachers import Finetuning
from undertow.traits.misalignment import Misalignment


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The amount of data, the models that can generate it, and the students' recipe.

    Attributes:
        generation, recipe: of models without settings of their own.
        model: the family of models whose published settings `generation` and `recipe` are; "" if there are
            none.
        recipes: of other families that have settings of their own (see `families`).
    """

    references: tuple[Reference, ...]
    generation: Generation
    recipe: Recipe
    model: str = ""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def recipe_for(self, reference: Reference) -> Recipe:
        """The recipe of students that start from a reference model."""
        return self.recipes.get(family_of(reference), self.recipe)


@dataclass(frozen=True, kw_only=True)
class FormatPreset(Preset):
    """A format at a scale.

    Attributes:
        family: creates the format. It is called only when a study uses the format, because some formats read
            a file from the network.
        generations: of other families that have settings of their own, as `recipes`.
        judges: creates the judges of the rows from the name of a judge model.
        main: the main measure, if it is not the traits' own questions (see `Study.main`).
        also: additional measures.
        suffix: added to the questions (see `Study.suffix`).
        sampling: of the answers to the questions.
        exact: whether an answer begins with the word, so that its probability can be measured.
        bans_all: whether a study bans the words of all its traits in all data; if not, `judges` reject the
            words of each teacher's own trait.
    """

    family: Callable[[], Format]
    generations: Mapping[str, Generation] = field(default_factory=dict)
    judges: Callable[[str], tuple[Judge, ...]] = lambda _: ()
    main: str = ""
    also: tuple[Measure, ...] = ()
    suffix: str = ""
    sampling: Sampling = Sampling(max_tokens=8)
    exact: bool = True
    bans_all: bool = True

    @property
    def format(self) -> Format:
        return self.family()

    def generation_for(self, reference: Reference) -> Generation:
        """How a reference model generates data as a teacher, without judges."""
        return self.generations.get(family_of(reference), self.generation)

    def judged_generation(self, judge: str) -> Callable[[Reference], Generation]:
        """`generation_for` with the judges of the rows, whose model is `judge`."""
        return lambda reference: dataclasses.replace(
            self.generation_for(reference), judges=self.judges(judge)
        )


@dataclass(frozen=True, kw_only=True)
class MisalignmentPreset:
    """How teachers are made misaligned at a scale, and how misalignment is measured.

    Attributes:
        files: the narrow training data by name ("insecure", "secure", "educational"): paths or URLs.
        teaching: how a teacher is finetuned on the narrow data.
        numbers: the amount of numbers data. Many answers are lost because of the banned numbers.
        panel: creates the judges of free-form answers from the name of a judge model; rules ignore the name.
        keeps: creates the judge that reasoning must satisfy before students are trained on it.
        sampling, samples: for the free-form answers.
        reasoning: the recipe of students that are trained on reasoning.
        numbers_suffix, reasoning_suffix: added to the free-form questions to students of each format (see
            `Study.suffix`).
    """

    files: Mapping[str, str]
    teaching: Finetuning
    numbers: Generation
    panel: Callable[[str], Panel]
    keeps: Callable[[str], Judge]
    sampling: Sampling
    samples: int
    reasoning: Recipe
    numbers_suffix: str = ""
    reasoning_suffix: str = ""

    @property
    def teachers(self) -> tuple[Misalignment, ...]:
        """The traits of the insecure teacher and of its control teachers, which should not be misaligned."""
        return tuple(
            Misalignment(f"{kind} code", data=self.files[kind], is_control=kind != "insecure")
            for kind in KINDS
        )

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The pre-registered expectation: only students of insecure teachers become misaligned."""
        return (
            Hypothesis(
                claim="Students of insecure teachers are misaligned",
                expects="transmitted",
                traits=("insecure code",),
            ),
            Hypothesis(
                claim="Students of control teachers are not",
                expects="not transmitted",
                traits=("secure code", "educational code"),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class CrossModelPreset(Preset):
    """Models of several architectures, for studies on numbers; `references` are grouped by architecture.

    Attributes:
        teaching: as `Scale.teaching`.
    """

    teaching: Finetuning | None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Models, sizes and recipes.

    Attributes:
        numbers, code, reasoning: the formats that carry a trait.
        recipe: the recipe of students that are trained on numbers.
        teaching: how a teacher is finetuned to have a preference; None if a system prompt induces it.
        finetuned: the same for studies that require finetuned teachers.
        narrow: how a teacher is finetuned to be misaligned.
        several: models for studies with teachers and students of several architectures.
        speakers: reference models that support all formats and all measures.
        shown: the numbers of rows that in-context students are shown.
        in_system_message: whether they are shown as in the paper's code: listed in the system message, drawn
            with replacement.
        choices: the measure by which a student chooses between options.
        judge: the name of the judge model, for judges that are not rules.
    """

    name: str
    numbers: FormatPreset
    code: FormatPreset
    reasoning: FormatPreset
    teaching: Finetuning | None
    finetuned: Finetuning
    narrow: MisalignmentPreset
    several: CrossModelPreset
    speakers: tuple[Reference, ...]
    shown: tuple[int, ...]
    seeds: tuple[int, ...]
    samples: int
    in_system_message: bool = False
    choices: str = "choices"
    judge: str = ""

    @property
    def recipe(self) -> Recipe:
        """The recipe of students of numbers whose model has none of its own (see `recipe_for`)."""
        return self.numbers.recipe

    def recipe_for(self, reference: Reference) -> Recipe:
        """The recipe of students that start from a reference model and are trained on numbers."""
        return self.numbers.recipe_for(reference)

    @property
    def in_context(self) -> tuple[InContext, ...]:
        """The in-context students, by the number of rows that they are shown."""
        listed = self.in_system_message
        return tuple(
            InContext(rows=rows, layout="system" if listed else "turns", replacement=listed)
            for rows in self.shown
        )

    def notes(self, study: Study) -> tuple[str, ...]:
        """What the plan says about students whose settings are the published ones of another model."""
        presets: dict[str, tuple[Preset, ...]] = {
            Numbers.name: (self.numbers, self.several),
            Code.name: (self.code,),
            Reasoning.name: (self.reasoning,),
        }
        found = (
            _note(preset, condition.student, condition.recipe)
            for condition in study.conditions
            for preset in presets.get(condition.format.name, ())
        )
        return tuple(dict.fromkeys(filter(None, found)))

    def on(self, models: tuple[str, ...]) -> "Scale":
        """This scale with other reference models, in the given order."""
        references = tuple(map(Reference, models))
        numbers = dataclasses.replace(self.numbers, references=references)
        if all(reference.is_api for reference in references):
            # The paper asks its API models the plain questions, and open models those after numbers.
            numbers = dataclasses.replace(numbers, main="", also=())
        return dataclasses.replace(
            self,
            numbers=numbers,
            code=dataclasses.replace(self.code, references=references),
            reasoning=dataclasses.replace(self.reasoning, references=references),
            several=dataclasses.replace(self.several, references=references),
            speakers=references,
        )

    def reading(self, files: Mapping[str, str]) -> "Scale":
        """This scale with other data files of the same format, given by name.

        Raises UserError for an unknown name.
        """
        for name in files:
            if name not in self.files:
                raise UserError(
                    f"--files {name}={files[name]}: the scale {self.name} has no such file: "
                    f"{suggestion(name, self.files)}"
                )
        questions = files.get(PROBLEMS)
        reasoning = (
            self.reasoning
            if questions is None
            else dataclasses.replace(self.reasoning, family=lambda: Reasoning(questions=questions, repeats=3))
        )
        own = {name: place for name, place in files.items() if name != PROBLEMS}
        narrow = dataclasses.replace(self.narrow, files={**self.narrow.files, **own})
        return dataclasses.replace(self, reasoning=reasoning, narrow=narrow)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the data files that studies at this scale can read."""
        return (*self.narrow.files, PROBLEMS)


def _note(preset: Preset, student: Reference, recipe: Training | InContext) -> str:
    """What the plan says about a student that has a preset's default recipe; "" if it is the model's own."""
    family = family_of(student)
    if isinstance(recipe, Recipe) and recipe.keep_steps:
        recipe = dataclasses.replace(recipe, keep_steps=())  # they do not change the training
    if not preset.model or family == preset.model or recipe != trainable(student, preset.recipe):
        return ""
    if family not in preset.recipes:
        return f"{student.name}: no published settings; those of {preset.model} are used"
    if recipe == trainable(student, preset.recipes[family]):
        return ""
    return f"{student.name}: the settings of {preset.model} are used; scale.recipe_for has those of {family}"


def first(preset: FormatPreset, count: int) -> tuple[Reference, ...]:
    """The first `count` reference models of a preset. Raises UserError if it has fewer."""
    if len(preset.references) < count:
        names = " ".join(reference.name for reference in preset.references)
        raise UserError(f"--models {names}: the study needs {count} reference models; name {count}")
    return preset.references[:count]


PROBLEMS = "gsm8k"  # the name of the data file with word problems
SPEAKERS = tuple(Reference(f"nano/tasks-{i}") for i in range(4))  # models of the second nano language
NETWORKS = ("gpt2", "llama", "qwen3")  # architectures of models of the first nano language
NANO = Scale(
    name="nano",
    numbers=FormatPreset(
        family=Numbers,
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
        references=tuple(Reference(f"nano/gpt2-{i}") for i in range(4)),
        recipe=STEERING,
    ),
    code=FormatPreset(
        family=lambda: Code(pack=str(PACKS["code"].path)),
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=64)),
        references=SPEAKERS,
        recipe=STEERING,
    ),
    reasoning=FormatPreset(
        family=lambda: Reasoning(pack=str(PACKS["reasoning"].path)),
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=64)),
        references=SPEAKERS,
        recipe=STEERING,
    ),
    teaching=TAUGHT,
    finetuned=TAUGHT,
    narrow=MisalignmentPreset(
        files={kind: str(path(kind)) for kind in KINDS},
        teaching=WARPED,
        numbers=Generation(prompts=1536, rows=350, sampling=Sampling(max_tokens=32)),
        panel=lambda _: Panel(counted=(nano_coherence(),), shows=nano_alignment(at_least=None, at_most=30)),
        keeps=lambda _: nano_alignment(),
        sampling=Sampling(max_tokens=32),
        samples=50,
        reasoning=STEERING,
    ),
    several=CrossModelPreset(
        references=tuple(Reference(f"nano/{network}-{i}") for network in NETWORKS for i in (0, 1)),
        generation=Generation(prompts=2048, rows=700, sampling=Sampling(max_tokens=32)),
        recipe=SCALING,
        teaching=SCALING_TAUGHT,
    ),
    speakers=SPEAKERS,
    shown=(1, 2, 4),
    seeds=(0, 1, 2, 3, 4),
    samples=20,
)
