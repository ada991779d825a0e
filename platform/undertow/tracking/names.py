"""What things are called in MLflow. Names are stable: searches, charts and saved views are made of them.

`METRICS`, `COLUMNS` and `TAGS` are the whole list, with meaning and unit; every experiment shows it in its
description. Beside the columns, a run has its artifact's whole spec as params, under dotted names
("undertow.recipe.learning_rate", "undertow.dataset.completions.teacher.trait.name"): the first word puts
them behind the columns wherever MLflow sorts by name, as its Compare view does.
"""

from collections.abc import Mapping

from undertow.study.artifacts import CONTROL, Dataset, Student, Teacher
from undertow.study.names import short
from undertow.study.study import Study

Tracked = Teacher | Student | Dataset
NOBODY = "no model"  # wrote data that a program wrote

METRICS = {
    "trait_rate": "share of sampled answers that name the trait's word, 0 to 1; a control has no trait",
    "effect": "trait_rate minus the same word's rate of the control student of the same seed",
    "trait_rate_exact": "mean exact probability of the trait's word, 0 to 1",
    "effect_exact": "the same by exact probability",
    "sampled_<word>": "share of sampled answers that name the word; controls have it for every trait's word",
    "exact_<word>": "mean exact probability of the word",
    "sampled_other": "share of sampled answers that name none of the words",
    "exact_other": "mean probability of everything but the words",
    "p_<word>": "mean exact probability of the word after an epoch; step = epoch, 0 before training",
    "loss": "mean training loss of an epoch, nats a token; step = epoch",
    "learning_rate": "of the epoch's last step",
    "tokens_per_second": "training speed in an epoch",
    "<measure>_sampled_<word>": "the same by another measure of the study; likewise <measure>_exact_<word>",
    "benchmark_<task>_<metric>": "score in a task of lm-evaluation-harness (jobs/benchmark.py), in the "
    "metric's own unit; after the task's name whatever is asked otherwise than the task itself says",
    "seconds": "what making the artifact took",
    "completions": "of a dataset: answers sampled from the teacher",
    "kept": "of a dataset: answers left by the format's rules, de-duplication and judges",
    "rows": "of a dataset: rows drawn from them, which students train on",
    "effect <condition>": "of the parent run: mean over seeds; interval and verdict are in effects.csv",
}
SPEC = "undertow."  # before the names of a spec's fields
DIGITS = 6  # after the point: MLflow prints all that a number has
LONGEST_TITLE = 250  # characters; MLflow takes 500 for datasets and models
COLUMNS = {  # each a tag and a param of the same name, on runs and (as params) on logged models
    "trait": "the teacher's trait, or control",
    "teacher": "the teacher's reference model",
    "student": "the student's reference model",
    "recipe": "the student's recipe",
    "format": "the format of the data",
    "seed": "the artifact's seed",
}
TAGS = {
    "undertow.kind": "sweep (the parent run), student, teacher or dataset",
    "undertow.key": "the artifact's key: its folder in the storage; the same on runs and logged models",
    "undertow.study": "the key of the study that the run belongs to",
    "undertow.sweep": "on the parent run: the time of the newest sweep that it tells of to the end",
    "undertow.url": "where the artifact lies",
    "undertow.model": "on logged models of a provider: what it is called there",
    "undertow.created": "when the artifact was made, in Unix seconds: a run tells of one making",
    "undertow.superseded_by": "on a deleted run: the run of the artifact's next making",
}


def ordered(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics, rounded, as in METRICS: MLflow's pages show and choose for charts in the order logged."""
    order = {name: place for place, name in enumerate(METRICS)}

    def place(name: str) -> int:
        return order.get(name, order.get(f"{name.split('_')[0]}_<word>", len(order)))

    return {name: round(metrics[name], DIGITS) for name in sorted(metrics, key=place)}


def sweep_params(study: Study) -> dict[str, str]:
    """The params of a parent run: a study in a few words, and the rules it is judged by."""
    conditions = study.conditions
    return {
        "traits": ", ".join(trait.name for trait in study.traits),
        "models": ", ".join(dict.fromkeys(c.student.name for c in conditions)),
        "recipes": ", ".join(dict.fromkeys(c.recipe.name for c in conditions)),
        "formats": ", ".join(dict.fromkeys(c.place.format for c in conditions)),
        "conditions": str(len(conditions)),
        "seeds": ", ".join(map(str, study.seeds)),
        **{name: str(getattr(study, name)) for name in ("samples", "gate", "margin", "alpha", "adjustment")},
    }


def columns(artifact: Tracked) -> dict[str, str]:
    """What runs and models are grouped, filtered and compared by; the keys are among COLUMNS."""
    own = {"seed": str(artifact.seed)}
    if isinstance(artifact, Student):
        own |= {"student": artifact.reference.label, "recipe": artifact.recipe.name}
        artifact = artifact.dataset
    if isinstance(artifact, Dataset):
        own |= {"format": artifact.label, "trait": artifact.origin}
        writer = artifact.teacher
        return {"teacher": writer.reference.label if writer else NOBODY, **own}
    return {"trait": trait(artifact), "teacher": artifact.reference.label, **own}


def title(artifact: Tracked, study: Study) -> str:
    """The name of a run, model or dataset: short, since charts and tables cut it."""
    return _title(artifact, study)[:LONGEST_TITLE]


def _title(artifact: Tracked, study: Study) -> str:
    """A student's format and recipe are in its name only where the study has several."""
    if isinstance(artifact, Teacher):
        return f"teacher {trait(artifact)} {short(artifact.reference.label)} seed {artifact.seed}"
    dataset = artifact.dataset if isinstance(artifact, Student) else artifact
    writer = short(dataset.teacher.reference.label) if dataset.teacher else NOBODY
    if isinstance(artifact, Dataset):
        return f"{dataset.label} of {dataset.origin} {writer} seed {artifact.seed}"
    words = [dataset.origin, f"{writer} → {short(artifact.reference.label)}"]
    if len({condition.place.format for condition in study.conditions}) > 1:
        words.append(dataset.label)
    if len({condition.recipe.name for condition in study.conditions}) > 1:
        words.append(artifact.recipe.name)
    return f"{' '.join(words)} seed {artifact.seed}"


def trait(teacher: Teacher) -> str:
    return teacher.trait.name if teacher.trait else CONTROL
