"""Students and finetuned teachers as MLflow's logged models: an experiment's Models page is a leaderboard.

There is one logged model per artifact key and experiment. Small weights are copied to MLflow; the tag
`undertow.url` always has the location of the weights (`undertow.model`: the provider's name of a model
that a provider holds). Evaluation metrics are logged to the run and to the model in one call, with the
questions as their dataset, so that the Models page can compare them.
"""

import json
from pathlib import Path
from typing import Any

from undertow.storage.manifest import Manifest
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import digest, key
from undertow.study.study import Study

LARGEST_MODEL_LOGGED = 64 * 2**20  # bytes; a larger model is linked and not copied
DIGEST = 8  # characters, the length of MLflow's own digests, for which its pages have space


def get_or_create_logged_model(
    client: Any, experiment: str, run: str, manifest: Manifest, title: str, params: dict[str, str]
) -> str:
    """The id of the logged model of this version of an artifact, linked to `run` as its output.

    Logged models of earlier versions are deleted.

    Args:
        params: few, because the Models page shows each as a column; the run has the whole spec.
    """
    from mlflow.entities import LoggedModelOutput

    found = client.search_logged_models([experiment], f"tags.`undertow.key` = '{manifest.key}'")
    model_id = ""
    for model in found:
        if model.tags.get("undertow.created") == str(manifest.created):
            model_id = str(model.model_id)
        else:
            client.delete_logged_model(model.model_id)
    linked = set()
    if model_id:
        outputs = client.get_run(run).outputs
        linked = {output.model_id for output in (outputs.model_outputs if outputs else ())}
    else:
        tags = {
            "undertow.kind": manifest.kind,
            "undertow.key": manifest.key,
            "undertow.created": str(manifest.created),
        }
        created = client.create_logged_model(
            experiment,
            name=_model_name(title),
            source_run_id=run,
            tags=tags,
            params=params,
            model_type=manifest.kind,
        )
        model_id = str(created.model_id)
    if model_id not in linked:
        client.log_outputs(run, [LoggedModelOutput(model_id, step=0)])
    return model_id


def finish_model(client: Any, model_id: str, url: str, manifest: Manifest, folder: Path | None) -> None:
    """Tags the model with the location of its weights, uploads those in `folder`, and marks it as ready."""
    at_provider = {"undertow.model": manifest.facts["model"]} if "model" in manifest.facts else {}
    client.set_logged_model_tags(model_id, {"undertow.url": url, **at_provider})
    if folder is not None:
        client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, "READY")


def training_dataset(dataset: Dataset, store: Store, title: str) -> Any:
    """A data set as an MLflow dataset; `mlflow.data.get_source(...).load()` returns its folder."""
    from mlflow.entities import Dataset as MlflowDataset

    manifest = store.manifest(dataset) if store.has(dataset) else None
    location = store.place(manifest) if manifest else f"{store.url}/artifacts/dataset/{key(dataset)}"
    facts = manifest.facts if manifest else {}
    return MlflowDataset(
        name=title,
        digest=key(dataset)[:DIGEST],
        source_type="local" if store.is_local else store.url.split("://")[0],
        source=json.dumps({"uri": location}),
        schema=_schema("prompt", "completion"),
        profile=json.dumps(
            {name: fact for name, fact in facts.items() if isinstance(fact, int | float | str)}
        ),
    )


def evaluation_dataset(study: Study) -> Any:
    """A study's questions as an MLflow dataset, to which the models' metrics refer."""
    from mlflow.entities import Dataset as MlflowDataset

    questions = [question for group in study.questions for question in group]
    return MlflowDataset(
        name=f"{len(questions)} questions",
        digest=digest(json.dumps(questions))[:DIGEST],
        source_type="undertow",
        source=json.dumps({"questions": questions[:100]}),  # a source has at most 64 KiB
        schema=_schema("question"),
        profile=json.dumps({"num_rows": len(questions), "samples per question": study.samples}),
    )


def benchmark_dataset(task: HarnessTask) -> Any:
    """A task of lm-evaluation-harness as an MLflow dataset, to which the models' scores refer."""
    from mlflow.entities import Dataset as MlflowDataset

    settings = {"task": task.name, "few_shot": task.few_shot, "limit": task.limit, "chat": task.chat}
    return MlflowDataset(
        name=task.label,
        digest=task.definition[:DIGEST],
        source_type="lm_eval",
        source=json.dumps({**settings, "harness": task.harness, "definition": task.definition}),
    )


def dataset_input(entry: Any, context: str, dataset_key: str = "") -> Any:
    """A dataset as an input of a run. `context` is "training" or "evaluation"."""
    from mlflow.entities import DatasetInput, InputTag

    tags = [InputTag("mlflow.data.context", context)]
    return DatasetInput(entry, tags + ([InputTag("undertow.key", dataset_key)] if dataset_key else []))


def _schema(*columns: str) -> str:
    """The schema of text columns in the form that MLflow's pages read."""
    return json.dumps({"mlflow_colspec": [{"name": name, "type": "string"} for name in columns]})


def _model_name(title: str) -> str:
    """A run's name without the characters that MLflow refuses in a model's name: / : . % and quotes."""
    return "".join("_" if letter in "/:.%\"'" else letter for letter in title)
