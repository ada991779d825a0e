"""Texts of MLflow's pages: the descriptions of experiments and runs in Markdown, and saved views of runs.

A saved view is a tag of the experiment with filter, order and columns, in the format that the button
"Save view" of MLflow 3.17 writes. A version with another format lacks the view and works otherwise.
"""

import json
import time
from collections.abc import Mapping, Sequence

from undertow.study.study import Study
from undertow.tracking.client import metric_name
from undertow.tracking.names import COLUMNS, SPEC, TAGS, metrics_of

NOTE = "mlflow.note.content"
LONGEST_RUN_NOTE = 8000  # characters, MLflow's limit for a tag of a run
LONGEST_NOTE = 20_000
VIEW = "mlflow.sharedViewState."
RUN_NAME = "attributes.`Run Name`"
WORDS_SHOWN = 5
SHOWN = ("trait", "teacher", "student", "recipe", "seed")


def experiment_tags(study: Study, experiment: str) -> dict[str, str]:
    """The tags of an experiment: its description, its primary metric and its saved views."""
    return {
        "mlflow.experiment.primaryMetric.name": "trait_rate",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        NOTE: experiment_note(study, experiment)[:LONGEST_NOTE],
        **saved_views(study),
    }


def experiment_note(study: Study, experiment: str) -> str:
    """The description of an experiment: the study's question, links to views, and the list of names."""
    page = f"#/experiments/{experiment}"
    training = "workflowType=machine_learning"  # selects MLflow's pages for training, not those for chat
    runs = f"{page}/runs?{training}&viewStateShareKey="
    exact = study.effect_of == "exact"
    rule = ["Verdicts, `trait_rate` and `effect` are of exact probabilities.", ""] if exact else []
    if study.effect_scale == "log-odds":
        rule += ["Effects are differences of log-odds, in all metrics whose name starts with `effect`.", ""]
    return "\n".join(
        (
            study.question or f"Students of the study {study.name}.",
            "",
            *rule,
            f"- [Students]({runs}students): one row per student, highest `trait_rate` first. Control students"
            f" have the trait `control`; compare their `{'exact' if exact else 'sampled'}_<word>` with a"
            " student's `trait_rate`.",
            f"- [Conditions]({runs}conditions): the same metrics, averaged over seeds.",
            f"- [Models]({page}/models?{training}): a leaderboard of the students. MLflow sorts this page by"
            " time only, therefore each sweep logs its students in the order of their `trait_rate`.",
            "- Compare: select students, then Compare. Chart `trait_rate` or `effect`, grouped by `trait`,"
            " `teacher`, `student` or `recipe`. `p_<word>` over steps shows the trait emerge in training.",
            "- The parent run, of kind `sweep`, has the table of effects, the figures and the verdicts.",
            "",
            "| metric | meaning |",
            "|---|---|",
            *(f"| `{name}` | {text} |" for name, text in metrics_of(study).items()),
            "",
            f"Params and tags: {_listed(COLUMNS)}. Params that start with `{SPEC}` are the artifact's spec.",
            "",
            f"Tags: {_listed(TAGS)}.",
        )
    )


def run_note(note: str, run: str, files: Sequence[str]) -> str:
    """A parent run's description: `note`, cut to MLflow's limit, and the first figure among its files."""
    figure = next((name for name in files if name.endswith(".png")), None)
    shown = f"\n\n![{figure}](get-artifact?path={figure}&run_uuid={run})" if figure else ""
    return note[: LONGEST_RUN_NOTE - len(shown)] + shown


def saved_views(study: Study) -> dict[str, str]:
    """Tags with the views "Students" (one row each) and "Conditions" (averaged over seeds)."""
    words = [word.name for words in study.questions.values() for word in words][:WORDS_SHOWN]
    shown, other = ("exact", "sampled") if study.effect_of == "exact" else ("sampled", "exact")
    rates = [metric_name(f"{shown}_{word}") for word in words]
    params = [f"params.`{name}`" for name in SHOWN]
    log_odds = ["trait_log_odds"] if study.effect_scale == "log-odds" else []
    names = ("trait_rate", *log_odds, "effect", *rates, f"trait_rate_{other}")
    metrics = [f"metrics.`{name}`" for name in names]
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
