"""Students and finetuned teachers as MLflow's logged models: an experiment's Models page is a leaderboard.

One model an artifact key and experiment. Its weights are copied where they are small, and its tag
`undertow.url` says in any case where they lie (`undertow.model` what a provider that has them calls it).
Metrics of evaluation are logged to the run and to the model at once, under the questions as their dataset, so
that the page puts them side by side.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from undertow.storage.manifest import Manifest
from undertow.storage.store import Store
from undertow.study.artifacts import Dataset
from undertow.study.identity import key
from undertow.study.study import Study

LARGEST_MODEL_LOGGED = 64 * 2**20  # bytes: above it a logged model links to the store and holds no copy
DIGEST = 8  # digits, as MLflow's own digests have and its pages are laid out for


def logged_model(
    client: Any, experiment: str, run: str, manifest: Manifest, title: str, params: dict[str, str]
) -> str:
    """The id of the model of this making of an artifact, as an output of `run`; older makings are deleted.

    Its params are few, since the Models page shows them as columns; the whole spec is on the run.
    """
    from mlflow.entities import LoggedModelOutput

    found = client.search_logged_models([experiment], f"tags.`undertow.key` = '{manifest.key}'")
    ours = ""
    for known in found:
        if known.tags.get("undertow.created") == str(manifest.created):
            ours = str(known.model_id)
        else:
            client.delete_logged_model(known.model_id)
    linked = set()
    if ours:
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
        ours = str(created.model_id)
    if ours not in linked:
        client.log_outputs(run, [LoggedModelOutput(ours, step=0)])
    return ours


def finish_model(client: Any, model_id: str, url: str, manifest: Manifest, folder: Path) -> None:
    """Copies the weights where they are small, links to them, and declares the model ready."""
    at_provider = {"undertow.model": manifest.facts["model"]} if "model" in manifest.facts else {}
    client.set_logged_model_tags(model_id, {"undertow.url": url, **at_provider})
    if sum((folder / name).stat().st_size for name in manifest.files) <= LARGEST_MODEL_LOGGED:
        client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, "READY")


def training_data(dataset: Dataset, store: Store, title: str) -> Any:
    """A dataset as MLflow knows it; `mlflow.data.get_source(...).load()` gives its folder."""
    from mlflow.entities import Dataset as MlflowDataset

    manifest = store.manifest(dataset) if store.has(dataset) else None
    place = store.place(manifest) if manifest else f"{store.url}/artifacts/dataset/{key(dataset)}"
    facts = manifest.facts if manifest else {}
    return MlflowDataset(
        name=title,
        digest=key(dataset)[:DIGEST],
        source_type="local" if store.is_local else store.url.split("://")[0],
        source=json.dumps({"uri": place}),
        schema=_schema("prompt", "completion"),
        profile=json.dumps(
            {name: fact for name, fact in facts.items() if isinstance(fact, int | float | str)}
        ),
    )


def evaluation_data(study: Study) -> Any:
    """The questions that all models of a study are asked, as the dataset of their metrics."""
    from mlflow.entities import Dataset as MlflowDataset

    questions = [question for asked in study.questions for question in asked]
    return MlflowDataset(
        name=f"{len(questions)} questions",
        digest=hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:DIGEST],
        source_type="undertow",
        source=json.dumps({"questions": questions[:100]}),  # a source has at most 64 KiB
        schema=_schema("question"),
        profile=json.dumps({"num_rows": len(questions), "samples a question": study.samples}),
    )


def dataset_entry(name: str, digest: str, source_type: str, source: str) -> Any:
    """A dataset that metrics refer to; `source` is JSON, `digest` is cut to the length of MLflow's own."""
    from mlflow.entities import Dataset as MlflowDataset

    return MlflowDataset(name=name, digest=digest[:DIGEST], source_type=source_type, source=source)


def dataset_input(entry: Any, context: str, dataset_key: str = "") -> Any:
    """A dataset as an input of a run; `context` is "training" or "evaluation"."""
    from mlflow.entities import DatasetInput, InputTag

    tags = [InputTag("mlflow.data.context", context)]
    return DatasetInput(entry, tags + ([InputTag("undertow.key", dataset_key)] if dataset_key else []))


def _schema(*columns: str) -> str:
    """Columns of text, as MLflow's pages show them."""
    return json.dumps({"mlflow_colspec": [{"name": name, "type": "string"} for name in columns]})


def _model_name(title: str) -> str:
    """A run's name without what MLflow refuses in a model's: / : . % and quotes."""
    return "".join("_" if letter in "/:.%\"'" else letter for letter in title)
