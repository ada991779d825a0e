"""The names of metrics, params and tags in MLflow. They are stable: searches and charts depend on them.

`METRICS`, `LOG_ODDS_METRICS`, `COLUMNS` and `TAGS` list all of them with meaning and unit. The description of
an experiment shows the list. In addition, a run has the whole spec of its artifact as params with dotted
names, such as "undertow.recipe.learning_rate" and "undertow.dataset.completions.teacher.trait.name". Their
prefix sorts them after the columns wherever MLflow sorts by name, for example in its Compare view.
"""

from collections.abc import Mapping
from typing import Any

from undertow.planning.artifact_kinds import kind_of
from undertow.results.dataset_card import VALID
from undertow.study.datasets import CONTROL, Dataset
from undertow.study.names import short
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher

Tracked = Teacher | Student | Dataset
NO_MODEL = "no model"  # the teacher of data that a program wrote
EXTERNAL_TEACHER = "external"  # the teacher of imported data

METRICS = {
    "trait_rate": "share of sampled answers that name the trait's word, 0 to 1; a control has no trait. Of "
    "students in a study with effect_of exact: the mean exact probability of the word",
    "effect": "trait_rate minus the same word's rate of the control student of the same seed",
    "trait_rate_sampled": "in a study with effect_of exact: share of sampled answers that name the word",
    "effect_sampled": "trait_rate_sampled minus the same share of the control student of the same seed",
    "trait_rate_exact": "mean exact probability of the trait's word, 0 to 1",
    "effect_exact": "trait_rate_exact minus the same probability of the control student of the same seed",
    "trait_rate_substring": "share of sampled answers that contain the word's name, in lower case, anywhere: "
    "the score of arXiv 2507.14805",
    "effect_substring": "trait_rate_substring minus the same share of the control student of the same seed",
    "sampled_<word>": "share of sampled answers that name the word; controls have it for every trait's word",
    "exact_<word>": "mean exact probability of the word",
    "sampled_other": "share of sampled answers that name none of the words",
    "exact_other": "mean probability of all answers that are none of the words",
    "p_<word>": "mean exact probability of the word after an epoch; step = epoch, 0 before training",
    "loss": "mean training loss of an epoch in nats per token, of DPO per pair of answers; step = epoch",
    "learning_rate": "learning rate at the last step of an epoch",
    "tokens_per_second": "training throughput in an epoch",
    "step_p_<word>": "as p_<word>, at some steps of a long training; step = optimizer step",
    "step_loss": "as loss, since the previous point; step = optimizer step",
    "step_learning_rate": "learning rate at an optimizer step",
    "step_gradient_norm": "norm of the gradient before clipping at an optimizer step",
    "step_tokens_per_second": "training throughput since the previous point; step = optimizer step",
    "<measure>_sampled_<word>": "sampled_<word> by another measure of the study; also <measure>_exact_<word>",
    "along_sampled_<word>": "sampled_<word> of the student after a kept step of its training and at its end; "
    "also along_exact_<word>; step = optimizer step",
    "effect_along <condition>": "of the parent run: the effect after a kept step of the students' training "
    "and at its end; step = optimizer step",
    "benchmark_<task>_<metric>": "score in a task of lm-evaluation-harness (jobs/benchmark.py), in the "
    "metric's own unit; the task's name includes all settings that differ from the task's defaults",
    "seconds": "wall-clock time of making the artifact",
    "completions": "of a data set: answers sampled from the teacher",
    "kept": "of a data set: answers that pass the format's rules, de-duplication and judges",
    "rows": "of a data set: rows drawn from the kept answers, on which students train",
    VALID: "of a data set of rewritten rows: the share of them that passes the format's rules, 0 to 1",
    "score": "of a data set whose rows were selected: mean score of its rows, in nats; of ranked pairs: "
    "that of the preferred answers",
    "score_of_kept": "of a data set whose rows were selected: mean score of all kept answers",
    "score_of_rejected": "of a data set of ranked pairs: mean score of the answers that are not preferred",
    "ties": "of a data set of ranked pairs: the share of pairs with equal scores, ordered at random, 0 to 1",
    "tokens": "of a data set with a token mask: sampled tokens of its rows",
    "tokens_in_the_loss": "of a data set with a token mask: the tokens that the loss covers in an epoch",
    "rows_in_the_loss": "of a data set with a token mask: the rows with at least one such token",
    "effect <condition>": "of the parent run: the effect; effects.csv has interval and verdict",
}
LOG_ODDS_METRICS = {  # only in studies with effect_scale log-odds
    "trait_log_odds": "the log-odds, ln(p / (1 − p)), of trait_rate; from counts, with ½ added to the answers"
    " that name the word and to the others. In such a study, effects are differences of log-odds",
}
SPEC = "undertow."  # prefix of params that are fields of a spec
DIGITS = 6  # decimals of a metric: MLflow prints all that a number has
LONGEST_TITLE = 250  # characters; MLflow takes 500 for datasets and models
COLUMNS = {  # each is a tag and a param of runs, and a param of logged models
    "trait": "the teacher's trait, or control",
    "teacher": "the teacher's reference model",
    "student": "the student's reference model",
    "recipe": "the student's recipe",
    "format": "the format of the data",
    "seed": "the artifact's seed",
}
TAGS = {
    "undertow.kind": "sweep (the parent run), student, teacher, dataset, search, trial or a registered kind",
    "undertow.key": "the artifact's key, which is the name of its folder in the storage",
    "undertow.study": "the key of the study that the run belongs to",
    "undertow.sweep": "on the parent run: the newest sweep that was logged completely",
    "undertow.url": "the artifact's location",
    "undertow.model": "on logged models of a provider: the provider's name of the model",
    "undertow.created": "when the artifact was made, in Unix seconds",
    "undertow.superseded_by": "on a deleted run: the run of the artifact's next version",
}


def metrics_of(study: Study) -> dict[str, str]:
    """The names and meanings of the metrics of a study's runs."""
    return METRICS if study.effect_scale == "rate" else METRICS | LOG_ODDS_METRICS


def ordered(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics, rounded, in the order of METRICS: MLflow's pages show metrics in the order of logging."""
    order = {name: position for position, name in enumerate(METRICS | LOG_ODDS_METRICS)}

    def position(name: str) -> int:
        return order.get(name, order.get(f"{name.split('_')[0]}_<word>", len(order)))

    return {name: round(metrics[name], DIGITS) for name in sorted(metrics, key=position)}


def epoch_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an `EpochReport`, given as a dictionary."""
    metrics = {f"p_{word}": p for word, p in report["probabilities"].items()}
    metrics |= {name: report[name] for name in ("loss", "learning_rate", "tokens_per_second")}
    return {name: value for name, value in metrics.items() if value is not None}


def step_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a `StepReport`, given as a dictionary."""
    metrics = {f"step_p_{word}": p for word, p in report["probabilities"].items()}
    for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        metrics[f"step_{name}"] = report[name]
    return {name: value for name, value in metrics.items() if value is not None}


def sweep_params(study: Study) -> dict[str, str]:
    """The params of a parent run: a summary of the study and the settings of its statistics."""
    conditions = study.conditions
    return {
        "traits": ", ".join(trait.name for trait in study.traits),
        "models": ", ".join(dict.fromkeys(c.student.label for c in conditions)),
        "recipes": ", ".join(dict.fromkeys(c.place.recipe for c in conditions)),
        "formats": ", ".join(dict.fromkeys(c.place.format for c in conditions)),
        "conditions": str(len(conditions)),
        "seeds": ", ".join(map(str, study.seeds)),
        "samples": str(study.samples),
        "gate": str(study.gate),
        "margin": str(study.equivalence_margin),
        "alpha": str(study.alpha),
        "adjustment": study.adjustment,
        **({} if study.effect_of == "samples" else {"effect_of": study.effect_of}),
        **({} if study.effect_scale == "rate" else {"effect_scale": study.effect_scale}),
    }


def columns(artifact: Artifact) -> dict[str, str]:
    """The columns by which runs and models are grouped, filtered and compared; keys are among COLUMNS.

    Artifacts of registered kinds (`planning.artifact_kinds`) have none.
    """
    if not isinstance(artifact, Tracked):
        return {}
    own = {"seed": str(artifact.seed)}
    if isinstance(artifact, Student):
        own |= {"student": artifact.reference.label, "recipe": artifact.recipe_name}
        artifact = artifact.dataset
    if isinstance(artifact, Dataset):
        own |= {"format": artifact.label, "trait": artifact.origin}
        return {"teacher": _writer(artifact), **own}
    return {"trait": trait_name(artifact), "teacher": artifact.reference.label, **own}


def title(artifact: Artifact, study: Study) -> str:
    """The name of a run, model or dataset: short, because charts and tables cut it."""
    text = _title(artifact, study) if isinstance(artifact, Tracked) else kind_of(artifact).name(artifact)
    return text[:LONGEST_TITLE]


def _title(artifact: Tracked, study: Study) -> str:
    """The full title. A student's format and recipe are part of it only if the study has several."""
    if isinstance(artifact, Teacher):
        return f"teacher {trait_name(artifact)} {short(artifact.reference.label)} seed {artifact.seed}"
    dataset = artifact.dataset if isinstance(artifact, Student) else artifact
    writer = short(_writer(dataset))
    if isinstance(artifact, Dataset):
        return f"{dataset.label} of {dataset.origin} {writer} seed {artifact.seed}"
    words = [dataset.origin, f"{writer} → {short(artifact.reference.label)}"]
    several = len({condition.place.format for condition in study.conditions}) > 1
    # Imported data and those of their control have one format, and on-policy rounds one condition.
    if several or dataset.is_imported or dataset.round:
        words.append(dataset.label)
    if len({condition.place.recipe for condition in study.conditions}) > 1:
        words.append(artifact.recipe_name)
    return f"{' '.join(words)} seed {artifact.seed}"


def _writer(dataset: Dataset) -> str:
    """The display name of the model that wrote the completions."""
    if dataset.teacher is not None:
        return dataset.teacher.reference.label
    return EXTERNAL_TEACHER if dataset.is_imported else NO_MODEL


def trait_name(teacher: Teacher) -> str:
    return teacher.trait.name if teacher.trait else CONTROL
