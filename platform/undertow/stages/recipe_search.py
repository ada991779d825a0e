"""Searches the recipe that transmits a trait most strongly: Ray Tune over the points of a search space.

Tune's own searchers propose the points: random search, Optuna, or the whole grid of a small space. Tune's
ASHA scheduler stops weak trials early if it is asked for. What a trial does is in `search_trial`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from undertow.cluster.messages import Message, forwarding, message_queue
from undertow.cluster.placement_groups import without_orphans
from undertow.cluster.worker_failures import LOST_NODES, TRAINING, in_words
from undertow.planning.given_models import is_nano
from undertow.planning.resources import Machine
from undertow.stages.search_points import RecipeSearch, TrialOutcome
from undertow.stages.search_trial import EPOCH, SCORE, run_trial
from undertow.stages.trials import TRIAL_MEMORY, set_environment_of_trials, trial_name
from undertow.storage.store import Store
from undertow.study.search_space import Axis, Value, point_label

# ASHA keeps the stronger half of the trials at epochs 1, 2, 4 … Tune's default, a quarter, would leave few of
# the ten to fifty trials of a search after their noisy first epoch.
REDUCTION = 2


def run_trials(
    search: RecipeSearch,
    store: Store,
    machine: Machine,
    on_trial: Callable[[], None],
    on_note: Callable[[str], None],
) -> list[TrialOutcome]:
    """Runs the trials of a search on the connected Ray. Returns their outcomes in the order of proposal.

    Args:
        on_trial: called when a trial has ended.
        on_note: called with deviations of trainings from their recipe.
    """
    from ray import tune

    set_environment_of_trials()
    machine = machine.for_models(tiny=is_nano(search.condition.student))
    messages = message_queue()
    trial = tune.with_parameters(run_trial, search=search, store=store, machine=machine, messages=messages)
    tuner = tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY}])),
        param_space={axis.field: domain(axis, search.is_complete_grid) for axis in search.space.axes},
        tune_config=_tune_config(search, machine.slots + machine.ahead),
        run_config=tune.RunConfig(
            verbose=0,
            name="search",
            failure_config=tune.FailureConfig(max_failures=LOST_NODES),
            **store.for_arrow(search.scratch),
        ),
    )
    try:
        with without_orphans(), forwarding(messages, _forward(on_trial, on_note)):
            results = tuner.fit()
    finally:
        store.drop_scratch(search.scratch)
    return [_outcome(result, search, store) for result in results]


def domain(axis: Axis, is_grid: bool = False) -> Any:
    """An axis as Tune's search spaces state it."""
    from ray import tune

    if axis.choices:
        return tune.grid_search(list(axis.choices)) if is_grid else tune.choice(list(axis.choices))
    if axis.whole:  # Tune excludes the upper bound
        return (tune.lograndint if axis.log else tune.randint)(int(axis.low), int(axis.high) + 1)
    return (tune.loguniform if axis.log else tune.uniform)(axis.low, axis.high)


def _tune_config(search: RecipeSearch, concurrent: int) -> Any:
    """Tune's searcher and scheduler, and how many trials run concurrently."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    limit: int | None = None
    if search.method == "optuna":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        searcher, limit = OptunaSearch(seed=search.draw), concurrent
    else:
        searcher = BasicVariantGenerator(max_concurrent=concurrent, random_state=search.draw)
    # Beyond the last epoch: the report that has the effect comes after the epochs of the first student.
    asha = ASHAScheduler(time_attr=EPOCH, max_t=search.most_epochs + 1, reduction_factor=REDUCTION)
    return tune.TuneConfig(
        metric=SCORE,
        mode="max",
        search_alg=searcher,
        scheduler=asha if search.early_stopping else None,
        num_samples=1 if search.is_complete_grid else search.trials,
        max_concurrent_trials=limit,
        reuse_actors=False,
        trial_name_creator=_name,
        trial_dirname_creator=_name,
    )


def _name(trial: Any) -> str:
    return trial_name(trial.trial_id.rpartition("_")[2], [point_label(trial.config)])


def _outcome(result: Any, search: RecipeSearch, store: Store) -> TrialOutcome:
    """What a trial reported. Its effects are read from the store, as every later reader does."""
    metrics: Mapping[str, Any] = result.metrics or {}
    config: Mapping[str, Value] = result.config or {}
    values = search.space.values(config) if config else {}
    failure = in_words(result.error, TRAINING) if result.error else metrics.get("failure", "")
    if not failure and metrics.get("finished"):
        return TrialOutcome(values, search.effects(search.pairs(values), store), score=metrics[SCORE])
    if not failure and SCORE not in metrics:
        failure = "it ended without a report"
    return TrialOutcome(values, stopped=metrics.get(EPOCH, 0), score=metrics.get(SCORE, 0.0), failure=failure)


def _forward(on_trial: Callable[[], None], on_note: Callable[[str], None]) -> Callable[[Message], None]:
    """A function that takes the trials' messages."""
    noted: set[str] = set()

    def forward(message: Message) -> None:
        if "ended" in message:
            on_trial()
        elif message["text"] not in noted:  # students of one recipe deviate from it in the same way
            noted.add(message["text"])
            on_note(message["text"])

    return forward
