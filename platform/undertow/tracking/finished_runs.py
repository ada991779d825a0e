"""Adds metrics and files to the MLflow runs of a study whose sweep has finished."""

from collections.abc import Iterable, Mapping
from typing import Any

from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Artifact
from undertow.study.study import Study
from undertow.tracking.client import connect_client, log_files, log_metrics, tracking_uri


class FinishedRuns:
    """The runs that the sweeps of a study have created, found by their tags. Creates no run."""

    def __init__(self, study: Study, store: Store) -> None:
        self._client = connect_client(tracking_uri(store))
        self._experiment = self._client.get_experiment_by_name(study.name)
        self._study_key = key(study)

    def add_files(self, files: Mapping[str, bytes]) -> None:
        """Adds files, by name, to the parent run. Does nothing if there is none."""
        if run := self._find("tags.`undertow.kind` = 'sweep'"):
            log_files(self._client, run.info.run_id, files)

    def add_metrics(self, artifact: Artifact, metrics: Iterable[tuple[Mapping[str, float], Any]]) -> bool:
        """Adds final metrics to an artifact's run and, if it has one, to its logged model.

        `metrics` are pairs of metrics and the MLflow dataset that they are about on the page of models (see
        `logged_models.benchmark_dataset`). Metrics with equal values are not logged again. Returns False if
        the artifact has no run.
        """
        run = self._find(f"tags.`undertow.key` = '{key(artifact)}'")
        if run is None:
            return False
        models = run.outputs.model_outputs if run.outputs else ()
        model = next((output.model_id for output in models), None)
        for values, dataset in metrics:
            log_metrics(self._client, run.info.run_id, values, model, dataset if model else None)
        return True

    def _find(self, tag: str) -> Any:
        """The run of this study with a tag, or None."""
        if self._experiment is None:
            return None
        condition = f"tags.`undertow.study` = '{self._study_key}' and {tag}"
        return next(
            iter(self._client.search_runs([self._experiment.experiment_id], condition, max_results=1)), None
        )
