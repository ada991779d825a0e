"""The specs that the artifacts of a study must have, derived from the study as it was stated.

This is the counterpart of `planning.cells.cell_of` for verification. It works on plain JSON, because an
archive is verified on machines without the study file and its classes, and years later by other versions of
this package. Where `cell_of` or a spec class changes, this module must change too;
`tests/archive/test_forged_specs.py` changes every field of every artifact and expects that each change is
detected.

A stated study does not contain everything. Texts that a trait produces (system prompt, questions, words)
are computed if they are those of this installation (`stated_traits`). Otherwise they only have to be the same
in all artifacts of the sweep, as do the versions of the artifact classes.
"""

from collections.abc import Sequence
from typing import Any

from undertow.archive.spec_comparison import JsonSpec, Partial, Unstated, Version, text_of
from undertow.archive.stated_judges import judges_of
from undertow.archive.stated_traits import Asked, other_questions, own_questions, rebuild_trait, system_prompt
from undertow.study.identity import canonical, source_of
from undertow.study.on_policy import OnPolicy
from undertow.study.references import API, EXTERNAL

STARTS = ("teacher_start", "student_start")


class ExpectedSpecs:
    """The expected specs of a stated study's models, data sets and measurements.

    Measures are numbered like `Study.also`; None stands for the traits' own questions.
    """

    def __init__(self, study: JsonSpec) -> None:
        self.study = study
        self._asked: dict[int | None, list[Asked]] = {}
        stated = list({text_of(c["trait"]): c["trait"] for c in study["conditions"] if c["trait"]}.values())
        rebuilt = [trait for trait in map(rebuild_trait, stated) if trait is not None]
        if len(rebuilt) == len(stated):
            self._asked[None] = own_questions(rebuilt, study.get("main", ""), study.get("suffix", ""))
            for number, measure in enumerate(study.get("also", ())):
                if measure["type"] == "Measure":
                    self._asked[number] = other_questions(rebuilt, measure["name"])

    def student(self, condition: JsonSpec, seed: int) -> JsonSpec:
        """The student of a condition and seed, with everything that it is made from."""
        start = self._start(condition["student"], condition.get("student_start"), seed)
        dataset = self._dataset(condition, seed)
        settings = {
            "recipe": condition["recipe"],
            "system": condition["system"],
            "seed": self._seed("student", seed),
        }
        if "after" in condition and condition["recipe"].get("trainable", {}).get("type") == "LoRA":
            settings["content"] = Unstated("content of students with adapters in chains")
        on_policy = condition["generation"].get("on_policy")
        if on_policy is None:
            return _spec("Student", reference=start, dataset=dataset, **settings)
        student: JsonSpec = {}
        for part in OnPolicy(rounds=on_policy["rounds"]).parts(
            dataset["completions"]["prompts"], dataset["rows"]
        ):
            model = {**start, "student": student} if student else start
            sampler = _spec("Sampler", model=model, system=condition["system"], skip=part.skip)
            completions = {**dataset["completions"], "prompts": part.prompts, "sampler": sampler}
            of_round = {**dataset, "completions": completions, "rows": part.rows}
            student = _spec("Student", reference=start, dataset=of_round, **settings)
        return student

    def teacher(self, condition: JsonSpec, seed: int) -> JsonSpec | None:
        """The teacher of a condition and seed; None if its rows are imported."""
        if _is_imported(condition):
            teacher: JsonSpec | None = source_of(self._dataset(condition, seed)).get("teacher")
            return teacher
        return self._own_teacher(condition, seed)

    def _own_teacher(self, condition: JsonSpec, seed: int) -> JsonSpec:
        """The teacher of a condition whose rows are not imported."""
        trait, finetuning = condition["trait"], condition["finetuning"]
        system = condition["generation"].get("system")
        if "after" in condition:
            student = self.student(condition["after"], seed)
            fields = {"reference": student["reference"], "finetuning": None, "seed": 0, "student": student}
            return _spec("Teacher", trait=trait, system=system, **fields)
        if trait and "steering" in condition:
            is_projected = condition["steering"]["direction"] == "projection"
            return _spec(
                "Teacher",
                reference=condition["teacher"],
                trait=trait,
                system=system_prompt(trait) if is_projected else system,
                finetuning=None,
                seed=0,
                steering=self._steering(condition),
            )
        if trait and (condition.get("prompted") or not finetuning):
            system = system_prompt(trait)
        return _spec(
            "Teacher",
            reference=self._start(condition["teacher"], condition.get("teacher_start"), seed),
            trait=trait,
            system=system,
            finetuning=finetuning,
            seed=self._seed("teacher", seed) if finetuning else 0,
        )

    @staticmethod
    def _steering(condition: JsonSpec) -> JsonSpec:
        """What steers a condition's teacher."""
        steering, generation, trait = condition["steering"], condition["generation"], condition["trait"]
        rebuilt = rebuild_trait(trait)
        label = f"{text_of(trait)}, {steering['prompts']} prompts"
        prompts: Any = Unstated(f"prompts of the steering by {label}")
        if rebuilt:
            examples = rebuilt.examples(steering["prompts"], seed=0)
            prompts = list(dict.fromkeys(example.prompt for example in examples))
        vector = _spec(
            "SteeringVector",
            reference=condition["teacher"],
            parameter=steering["parameter"],
            system=system_prompt(trait),
            neutral=generation.get("system"),
            prompts=prompts,
        )
        if steering["direction"] == "projection":
            return _spec("ProjectedOut", vector=vector)
        sampling = {name: value for name, value in generation["sampling"].items() if name != "top_logprobs"}
        bias = _spec(
            "SteeringBias",
            vector=vector,
            word=canonical(rebuilt.word()) if rebuilt else Unstated(f"word of {text_of(trait)}"),
            format=condition["format"],
            sampling={**sampling, "top_logprobs": 0},
            strip=generation.get("strip", True),
            **{name: steering[name] for name in ("strengths", "completions", "least_kept")},
        )
        return bias if steering["direction"] == "difference" else _spec("RandomBias", of=bias, seed=0)

    def measurements(
        self,
        subject: JsonSpec,
        root: JsonSpec,
        system: Any,
        measure: int | None,
        found: Sequence[JsonSpec | None],
        step: int | None = None,
    ) -> list[Any] | None:
        """The measurements of a model by one measure; None if the questions are not known.

        Args:
            root: the given reference model that `subject` derives from.
            found: the specs of these measurements in the archive (None for a missing one). Questions that
                cannot be computed are taken from the first complete list.
            step: the kept step of a student's training at which it is measured; None for its end.
        """
        settings = self.study if measure is None else self.study["also"][measure]
        if settings["type"] not in ("Study", "Measure"):  # a measure of the study's own class
            label = f"{settings['name']} of {text_of(root)}"
            return [_measurement_of(subject, f"{label}, {number}", spec) for number, spec in enumerate(found)]
        if measure not in self._asked:
            if not found or None in found:
                return None
            self._asked[measure] = [_asked_by(spec) for spec in found if spec is not None]
        asked = self._asked[measure]
        return [self._measurement(one, subject, root, system, measure, step) for one in asked]

    def _measurement(
        self,
        asked: Asked,
        subject: JsonSpec,
        root: JsonSpec,
        system: Any,
        measure: int | None,
        step: int | None,
    ) -> JsonSpec:
        settings = self.study if measure is None else self.study["also"][measure]
        more: dict[str, Any] = {} if step is None else {"step": step}
        if asked.options:
            # The content marks the way of scoring (see `Evaluation.content`).
            more |= {"options": asked.options, "content": Unstated("content of answers by letter")}
        if asked.outcome is not None or root["name"].startswith(API) or not settings.get("exact", True):
            more["exact"] = False
        elif measure is None and not (self._needs_exact and subject["type"] == "Student"):
            # An engine of the study's own may give no probabilities.
            more["exact"] = Unstated(f"exact of {text_of(root)}")
        evaluation = _spec(
            "Evaluation",
            subject=subject,
            questions=asked.questions,
            words=asked.words,
            samples=settings["samples"],
            system=system,
            sampling=settings["sampling"],
            seed=0,
            **more,
        )
        if asked.outcome is None:
            return evaluation
        return _spec("Assessment", evaluation=evaluation, panel=self.study["panel"], outcome=asked.outcome)

    def asked(self) -> list[Asked] | None:
        """The traits' own questions, if they are known by now."""
        return self._asked.get(None)

    @property
    def _needs_exact(self) -> bool:
        """Whether the study's effects are of exact probabilities."""
        return self.study.get("effect_of") == "exact"

    def _seed(self, level: str, seed: int) -> int:
        return seed if level in self.study["redraw"] else 0

    def _start(self, reference: JsonSpec, start: JsonSpec | None, seed: int) -> JsonSpec:
        """A reference model; with another condition's student as `start`, the weights of that student."""
        return {**reference, "student": self.student(start, seed)} if start else reference

    def _dataset(self, condition: JsonSpec, seed: int) -> JsonSpec:
        """The data set of a condition and seed, with the scores by which rows or tokens are chosen."""
        dataset, generation = self._drawn_dataset(condition, seed), condition["generation"]
        selected, masked = generation.get("selected"), generation.get("masked")
        if selected:
            scores = self._scores(selected["by"], condition, dataset["completions"], 0, seed)
            dataset = {**dataset, "selected": _spec("Selected", scores=scores, keep=selected["keep"])}
        if masked:
            compared, by = None, masked["by"]
            if by:
                candidates = masked["candidates"]
                compared = self._scores(by, condition, dataset["completions"], candidates, seed)
            chosen = _given(masked, "choose", "share", "rest")
            dataset = {**dataset, "masked": _spec("Masked", scores=compared, **chosen)}
        return dataset

    def _scores(
        self, by: JsonSpec, condition: JsonSpec, completions: JsonSpec, candidates: int, seed: int
    ) -> Any:
        """The scores of completions by a row score of the study, as `Contrast.scores` makes them."""
        if by["type"] != "Contrast":
            return Unstated(f"scores by {text_of(by)} of {text_of(condition)}, seed {seed}")
        trait, finetuning = by["trait"], by["finetuning"]
        neutral = condition["generation"].get("system")
        is_external = condition["teacher"]["name"].startswith(EXTERNAL)
        reference = condition["student" if is_external else "teacher"]
        teacher = _spec(
            "Teacher",
            reference=reference,
            trait=trait,
            system=system_prompt(trait) if by["prompted"] or not finetuning else neutral,
            finetuning=finetuning,
            seed=self._seed("teacher", seed) if finetuning else 0,
        )
        control = _untrained(reference, neutral)
        return _spec(
            "TokenScores", completions=completions, teacher=teacher, control=control, candidates=candidates
        )

    def _drawn_dataset(self, condition: JsonSpec, seed: int) -> JsonSpec:
        """The data set without a choice by scores."""
        generation, trait = condition["generation"], condition["trait"]
        if _is_imported(condition):
            return self._imported(condition, self._seed("data", seed))
        teacher, data_seed = self._own_teacher(condition, seed), self._seed("data", seed)
        prompted = {"format": condition["format"], "prompts": generation["prompts"], "seed": data_seed}
        own = _spec("Completions", teacher=teacher, sampling=generation["sampling"], **prompted)
        own |= _given(generation, "strip")
        if "ranked" in generation:
            return self._ranked(own, teacher, condition, data_seed)
        dataset = self._drawn(own, generation, trait, data_seed)
        mixing = generation.get("mixed")
        if mixing is None:
            return dataset
        other = _spec("Written", **prompted)
        if mixing["source"] == "control":
            other = {**own, "teacher": self._own_teacher(control_of(condition), seed)}
        mixed = _spec("Mixed", dataset=self._drawn(other, generation, None, data_seed), share=mixing["share"])
        return {**dataset, "mixed": mixed}

    def _ranked(self, own: JsonSpec, teacher: JsonSpec, condition: JsonSpec, seed: int) -> JsonSpec:
        """The data set of pairs of a control teacher's answers, as `Ranking.of` makes it.

        Args:
            own: the completions that the condition's teacher would write.
        """
        generation, trait = condition["generation"], condition["trait"]
        control = _untrained(teacher["reference"], generation.get("system"))
        first = {**own, "teacher": control}
        second = {**first, "sample": 1}
        scores: list[JsonSpec | None] = [None, None]
        if trait:
            compared = {"teacher": teacher, "control": control, "candidates": 0}
            scores = [_spec("TokenScores", completions=one, **compared) for one in (first, second)]
        undrawn = {name: value for name, value in generation.items() if name != "fewer"}
        other = self._drawn(second, {**undrawn, "rows": None}, trait, seed)
        ranked = _spec("Ranked", other=other, scores=scores[0], other_scores=scores[1])
        return {**self._drawn(first, generation, trait, seed), "ranked": ranked}

    def _imported(self, condition: JsonSpec, seed: int) -> JsonSpec:
        """The data set of imported rows; without a trait, that of their control."""
        generation, trait, format_ = condition["generation"], condition["trait"], condition["format"]
        control = format_.get("control")
        if control:
            other = self._rows(control, generation, seed)
        else:
            size, _, prompts = format_["content"].split()
            is_external = condition["teacher"]["name"].startswith(EXTERNAL)
            writer = condition["student" if is_external else "teacher"]
            version = Unstated("version of Prompts")
            asked = {"type": "Prompts", "version": version, "content": prompts, "format": format_["format"]}
            other = _spec(
                "Completions",
                teacher=_untrained(writer, generation.get("system")),
                format=asked,
                prompts=min(generation["prompts"], int(size)),
                sampling=generation["sampling"],
                seed=seed,
            )
        if not trait:
            return self._drawn(other, generation, None, seed)
        alone = {name: value for name, value in format_.items() if name != "control"}
        dataset = self._drawn(self._rows(alone, generation, seed), generation, trait, seed)
        if mixing := generation.get("mixed"):
            drawn = self._drawn(other, generation, None, seed)
            return {**dataset, "mixed": _spec("Mixed", dataset=drawn, share=mixing["share"])}
        return dataset

    @staticmethod
    def _rows(format_: JsonSpec, generation: JsonSpec, seed: int) -> JsonSpec:
        """Imported rows. The content of their format begins with their number (`Imported.content`)."""
        count = min(generation["prompts"], int(format_["content"].split()[0]))
        return _spec("ImportedCompletions", format=format_, prompts=count, seed=seed)

    @staticmethod
    def _drawn(completions: JsonSpec, generation: JsonSpec, trait: JsonSpec | None, seed: int) -> JsonSpec:
        common = {
            "deduplicate": generation["deduplicate"],
            "judges": judges_of(generation["judges"], trait),
            "seed": seed,
        }
        if rewriter := generation.get("rewriter"):
            kept = _spec("Dataset", completions=completions, rows=None, shuffle="none", **common)
            completions = _spec("Rewritten", dataset=kept, rewriter=rewriter, seed=seed)
        return _spec(
            "Dataset",
            completions=completions,
            rows=generation["rows"],
            shuffle=generation["shuffle"],
            **common,
            **_given(generation, "fewer"),
        )


def _is_imported(condition: JsonSpec) -> bool:
    return bool(condition["format"]["type"] == "Imported")


def _untrained(reference: JsonSpec, system: Any) -> JsonSpec:
    """A teacher without a trait."""
    return _spec("Teacher", reference=reference, trait=None, system=system, finetuning=None, seed=0)


def control_of(condition: JsonSpec) -> JsonSpec:
    """A condition's control, as `Condition.control` makes it; `later` fields at their default are absent."""
    generation = {name: value for name, value in condition["generation"].items() if name != "mixed"}
    kept = {name: value for name, value in condition.items() if name not in ("prompted", "steering")}
    before = {"after": control_of(condition["after"])} if "after" in condition else {}
    starts = {n: without_trait(condition[n], condition["trait"]) for n in STARTS if n in condition}
    return {**kept, "trait": None, "finetuning": None, "generation": generation, **before, **starts}


def without_trait(condition: JsonSpec, trait: JsonSpec | None) -> JsonSpec:
    """A condition without a trait, as `Condition.without` makes it."""
    if trait is None:
        return condition
    if condition["trait"] == trait:
        return control_of(condition)
    earlier = {n: without_trait(condition[n], trait) for n in ("after", *STARTS) if n in condition}
    return {**condition, **earlier}


def _measurement_of(subject: JsonSpec, label: str, found: JsonSpec | None) -> Partial:
    """A measurement of a class of the study's own, of which only the subject is known."""
    if found and "evaluation" in found and "subject" not in found:
        return Partial(label, {"evaluation": Partial(f"{label}: evaluation", {"subject": subject})})
    return Partial(label, {"subject": subject})


def _asked_by(spec: JsonSpec) -> Asked:
    evaluation = spec.get("evaluation", spec)
    options = evaluation.get("options", ())
    return Asked(evaluation["questions"], evaluation["words"], spec.get("outcome"), options)


def _given(stated: JsonSpec, *names: str) -> dict[str, Any]:
    """The fields among `names` that a stated spec has; a `later` field at its default is absent."""
    return {name: stated[name] for name in names if name in stated}


def _spec(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, "version": Version(type_), **fields}
