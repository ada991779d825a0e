"""What MLflow's pages open with: descriptions in Markdown, and saved views of the runs table.

A saved view is an experiment's tag, as the button "Save view" of MLflow 3.17 writes it: filter, order and
columns. Where another version does not know the form, the view is missing and nothing else.
"""

import json
import time
from collections.abc import Mapping, Sequence

from undertow.study.study import Study
from undertow.tracking.client import metric_name
from undertow.tracking.names import COLUMNS, METRICS, SPEC, TAGS

NOTE = "mlflow.note.content"
LONGEST_RUN_NOTE = 8000  # characters, what MLflow's tags hold
LONGEST_NOTE = 20_000
VIEW = "mlflow.sharedViewState."
RUN_NAME = "attributes.`Run Name`"
WORDS_SHOWN = 5
SHOWN = ("trait", "teacher", "student", "recipe", "seed")


def experiment_tags(study: Study, experiment: str) -> dict[str, str]:
    """The tags that make an experiment's pages open with what students are compared by."""
    return {
        "mlflow.experiment.primaryMetric.name": "trait_rate",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        NOTE: experiment_note(study, experiment)[:LONGEST_NOTE],
        **saved_views(study),
    }


def experiment_note(study: Study, experiment: str) -> str:
    """What the study asks, how its students are compared, and what every name means."""
    place = f"#/experiments/{experiment}"
    training = "workflowType=machine_learning"  # MLflow's pages for training, not for chat
    runs = f"{place}/runs?{training}&viewStateShareKey="
    return "\n".join(
        (
            study.question or f"Students of the study {study.name}.",
            "",
            f"- [Students]({runs}students): one row each, the highest `trait_rate` first. Controls have the"
            " trait `control`; compare their `sampled_<word>` with a student's `trait_rate`.",
            f"- [Conditions]({runs}conditions): the same, averaged over seeds.",
            f"- [Models]({place}/models?{training}): every student by its answers to the questions, a sweep's"
            " by falling `trait_rate` (MLflow sorts this page by time alone, hence the order of logging).",
            "- Compare: tick students, then Compare; chart `trait_rate` or `effect`, group by `trait`,"
            " `teacher`, `student` or `recipe`. `p_<word>` over steps shows the trait arrive.",
            "- The parent run, of kind `sweep`, has the table of effects, the figures and the verdicts.",
            "",
            "| metric | meaning |",
            "|---|---|",
            *(f"| `{name}` | {text} |" for name, text in METRICS.items()),
            "",
            f"Params and tags: {_listed(COLUMNS)}. Params after `{SPEC}` are the artifact's whole spec.",
            "",
            f"Tags: {_listed(TAGS)}.",
        )
    )


def run_note(note: str, run: str, files: Sequence[str]) -> str:
    """A parent run's description: the given text and the figure among its files."""
    figure = next((name for name in files if name.endswith(".png")), None)
    shown = f"\n\n![{figure}](get-artifact?path={figure}&run_uuid={run})" if figure else ""
    return note[: LONGEST_RUN_NOTE - len(shown)] + shown


def saved_views(study: Study) -> dict[str, str]:
    """Tags with the views "Students" (one row each) and "Conditions" (averaged over seeds)."""
    words = [word.name for asked in study.questions.values() for word in asked][:WORDS_SHOWN]
    sampled = [metric_name(f"sampled_{word}") for word in words]
    params = [f"params.`{name}`" for name in SHOWN]
    metrics = [f"metrics.`{name}`" for name in ("trait_rate", "effect", *sampled, "trait_rate_exact")]
    students = {
        "searchFilter": "tags.`undertow.kind` = 'student'",
        "orderByKey": "metrics.`trait_rate`",
        "orderByAsc": False,
        "selectedColumns": params + metrics,
        "columnOrder": [RUN_NAME, *metrics, *params, "runDateAndNestInfo", "duration"],
        "columnWidths": {RUN_NAME: 280},
        "runsHiddenMode": "SHOW_ALL",
    }
    by = [{"mode": "param", "groupByData": name} for name in SHOWN if name != "seed"]
    conditions = {
        **students,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": by},
        "selectedColumns": metrics,
        "columnOrder": [RUN_NAME, *metrics, "runDateAndNestInfo", "duration"],
        "columnWidths": {RUN_NAME: 600},
    }
    views = {"Students": students, "Conditions": conditions}
    return {f"{VIEW}{name.lower()}": _view(name, state) for name, state in views.items()}


def _view(name: str, state: Mapping[str, object]) -> str:
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})


def _listed(names: Mapping[str, str]) -> str:
    return "; ".join(f"`{name}`, {text}" for name, text in names.items())
