"""A search for the recipe that transmits a trait most strongly, and its confirmation on fresh seeds.

    1. An ordinary sweep of the condition and its control on the seeds of the search, by the study's own
       recipe. It makes teachers and data, and it is the recipe that the others have to beat.
    2. The trials (`stages.recipe_search`): the same condition and control by other recipes, same seeds.
    3. An ordinary sweep of the strongest recipe on fresh seeds, which took no part in 1 and 2.

The largest of many effects is on average larger than the true effect of its recipe, and with enough trials it
is large even if no recipe transmits anything. The search therefore gives neither intervals nor verdicts; both
come from the third step, an ordinary study of one condition that was fixed before its seeds were drawn.

Ray Tune runs the second step alone. Its searchers propose one point at a time, for which a sweep per round of
proposals would start engines and workers again, and its schedulers can stop a training only from within.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from rich.console import Console
from rich.markup import escape

from undertow.cluster.connection import connect
from undertow.cluster.user_code import check_code
from undertow.errors import UserError
from undertow.planning import timings
from undertow.planning.costs import Hardware
from undertow.planning.plan import Plan
from undertow.planning.resources import Layout
from undertow.report import search_table as texts
from undertow.report.table_texts import duration, print_table
from undertow.results.effect_rows import EffectRow
from undertow.stages.search_points import Method, RecipeSearch, TrialOutcome
from undertow.stages.trials import seeds_in_words
from undertow.storage.leases import Leases
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.fields import Spec
from undertow.study.grids import with_controls
from undertow.study.identity import key
from undertow.study.search_space import SearchSpace, Value, point_label, with_values
from undertow.study.study import Level, Study
from undertow.sweep.plans import ON_ONE_GPU, estimates, make_plan, show_plan
from undertow.sweep.progress import Progress, print_line
from undertow.sweep.run import SweepOutcome, run
from undertow.tracking.client import log_finished_run

LEVELS: tuple[Level, ...] = ("teacher", "data", "student")


@dataclass(frozen=True, kw_only=True)
class SearchDesign(Spec):
    """What identifies a search: an equal one is the same run in MLflow and the same folder in the storage.

    Attributes:
        condition: the searched condition, resolved, with the study's own recipe.
        space: the fields and values as the user stated them.
        draw: the seed of the searcher's own draws.
    """

    study: str
    condition: Condition
    space: tuple[str, ...]
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    trials: int
    method: Method
    early_stopping: bool
    draw: int


@dataclass(frozen=True, kw_only=True)
class SearchTrial(Spec):
    """One trial of a search, as MLflow shows it: the condition with the trial's recipe."""

    search: str
    condition: Condition
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Search:
    """A search as the user asks for it.

    Attributes:
        study: the whole study, as its file gives it.
        condition: one of its conditions with a trait.
        texts: what `space` was parsed from.
        seeds, fresh_seeds: of the search and of its confirmation; they have none in common.
    """

    study: Study
    condition: Condition
    space: SearchSpace
    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    trials: int
    method: Method
    early_stopping: bool
    draw: int

    def own_recipe(self) -> Study:
        """The study of the first step: the condition and its control on the seeds of the search."""
        return self._narrowed("search", (self.condition,), self.seeds).changed(also=())

    def confirmation(self, best: TrialOutcome) -> Study:
        """The study of the third step: the strongest recipe on the fresh seeds."""
        return self._narrowed("confirmation", (with_values(self.condition, best.values),), self.fresh_seeds)

    def extremes(self) -> Study:
        """A study of the condition with each extreme of each field; its plan checks them before any work."""
        points: list[dict[str, Value]] = [
            {axis.field: value} for axis in self.space.axes for value in axis.extremes
        ]
        conditions = dict.fromkeys(with_values(self.condition, point) for point in points)
        return self._narrowed("search", tuple(conditions), self.seeds[:1])

    def resolved(self, plan: Plan) -> RecipeSearch:
        """The search for the second step.

        Args:
            plan: of `own_recipe`.
        """
        (condition,) = (c for c in plan.study.conditions if c.trait is not None)
        return RecipeSearch(
            study=plan.study,
            condition=condition,
            space=self.space,
            watch=self.study.probed,
            trials=self.trials,
            method=self.method,
            early_stopping=self.early_stopping,
            draw=self.draw,
            # As any training's (`planning.integrity`): no sweep removes it while its lease is held.
            scratch=f"ray-{key(self.design(condition))[:16]}",
        )

    def design(self, condition: Condition) -> SearchDesign:
        """The identity of the search. `condition` is the resolved one."""
        return SearchDesign(
            study=self.study.name,
            condition=condition,
            space=self.texts,
            seeds=self.seeds,
            fresh_seeds=self.fresh_seeds,
            trials=self.trials,
            method=self.method,
            early_stopping=self.early_stopping,
            draw=self.draw,
        )

    def _narrowed(self, step: str, conditions: Sequence[Condition], seeds: tuple[int, ...]) -> Study:
        return self.study.changed(
            name=f"{self.study.name}-{step}",
            question=f"{self.study.name}: {step} of a recipe that transmits {conditions[0].place.trait}",
            conditions=with_controls(conditions),
            seeds=seeds,
            hypotheses=(),
        )


def strongest(trials: Sequence[TrialOutcome]) -> TrialOutcome:
    """The trial with the largest effect on the seeds of the search; of equal ones the first."""
    return max((t for t in trials if t.effect is not None), key=lambda trial: trial.effect or 0.0)


def prepare(search: Search, store: Store) -> Plan:
    """The plan of the first step, after every extreme of the space was planned too.

    Raises UserError for a value, a combination of middle values, or a trait that a search cannot use.
    """
    make_plan(search.extremes(), store)
    plan = make_plan(search.own_recipe(), store)
    resolved = search.resolved(plan)
    resolved.pairs(search.space.middle)
    _ = resolved.word
    return plan


def show(search: Search, plan: Plan, store: Store, console: Console, hardware: Hardware = ON_ONE_GPU) -> None:
    """Prints the plan of the first step, and size and estimated time of the other two."""
    show_plan(plan, store, console, hardware)
    resolved = search.resolved(plan)
    students = [student for pair in resolved.pairs(search.space.middle) for student in pair]
    one = timings.estimate("students", students, timings.read(store))
    how = "every combination" if resolved.is_complete_grid else f"{search.method} search"
    stopping = ", weak trials stopped early (ASHA)" if search.early_stopping else ""
    print_line(
        f"Search: {resolved.count} trials of {len(students)} students (half of them controls, seeds "
        f"{seeds_in_words(search.seeds)}), {_time(one and one * resolved.count)}; {how} over "
        f"{'; '.join(axis.label for axis in search.space.axes)}{stopping}",
        console,
    )
    # As the trials: an earlier search may have left students of the study's own recipe.
    fresh = make_plan(search.confirmation(TrialOutcome(search.space.middle)), store)
    waves = [wave.seconds for wave in estimates(fresh, store, hardware)]
    seconds = None if None in waves else sum(filter(None, waves))
    print_line(
        f"Confirmation: the strongest recipe on the fresh seeds {seeds_in_words(search.fresh_seeds)}, "
        f"{len(fresh.cells)} students, {_time(seconds)}",
        console,
    )


def _time(seconds: float | None) -> str:
    return "time unknown" if seconds is None else f"at most about {duration(seconds)}"


def run_search(
    search: Search,
    plan: Plan,
    store: Store,
    console: Console,
    layout: Layout = Layout(),
    hardware: Hardware = ON_ONE_GPU,
) -> int:
    """Runs the three steps, prints their tables and logs the search. Returns the number of failures.

    Args:
        plan: from `prepare`.
    """
    first = run(plan, store, console, layout, hardware)
    if first.failed_conditions:
        print_line("The search needs the data of its condition and control; see the failures above.", console)
        return len(first.failed_conditions)
    resolved = search.resolved(plan)
    trials = [own_trial(first, resolved), *_run_trials(resolved, search, store, console, layout)]
    tabulated = trials, resolved.condition, search.space
    print_table(texts.search_table(*tabulated, search.seeds, plan.study.effect_scale), console)
    failed = [trial for trial in trials if trial.failure]
    for trial in failed:
        name, reason = escape(point_label(trial.values) or "a trial"), escape(trial.failure)
        console.print(f"[red]failed[/red] {name}: {reason}", highlight=False, soft_wrap=True)
    best = strongest(trials)
    print_line(texts.selection_line(best, trials), console)

    confirmed = run(make_plan(search.confirmation(best), store), store, console, layout, hardware)
    row = next((row for row in confirmed.rows if row.is_primary), None)
    print_line(texts.confirmation_line(row, search.fresh_seeds), console)
    if fixed := [level for level in LEVELS if level not in search.study.redraw]:
        print_line(f"Study.redraw leaves out {' and '.join(fixed)}: all seeds share them.", console)
    design = search.design(resolved.condition)
    files = {texts.CSV: texts.search_csv(*tabulated).encode()}
    folder = PurePosixPath("searches", search.study.name, key(design)[:16])
    for name, content in files.items():
        store.write_bytes(str(folder / name), content)
    print_line(f"Search: {store.url}/{folder}/{texts.CSV}", console)
    _log(design, trials, best, row, files, store)
    return len(failed) + len(confirmed.failed_conditions)


def own_trial(outcome: SweepOutcome, search: RecipeSearch) -> TrialOutcome:
    """The study's own recipe as a trial: its effects by seed, as the evaluations of the first step give them.

    The trainings of earlier sweeps may have measured other words, so their histories are not read.
    """
    row = next(row for row in outcome.rows if row.is_primary)
    scale = search.study.effect_scale
    controls = {control.seed: control for control in row.controls}
    return TrialOutcome(
        {},
        tuple(
            student.value(scale, "exact") - controls[student.seed].value(scale, "exact")
            for student in row.students
        ),
    )


def _run_trials(
    resolved: RecipeSearch, search: Search, store: Store, console: Console, layout: Layout
) -> list[TrialOutcome]:
    """Runs the trials on Ray. Raises UserError if another process runs the same search on the storage."""
    from undertow.stages.recipe_search import run_trials

    check_code(search.study)
    place = Address("search", key(search.design(resolved.condition)))
    with Leases(store) as leases:
        if not leases.take(place):
            raise UserError(
                f"--storage {store.url}: another process runs the same search there; wait for its end, or "
                "change --draw"
            )
        try:
            with (
                connect(layout, store) as machine,
                Progress(console, "search", resolved.count, "trials") as progress,
            ):
                return run_trials(
                    resolved, store, machine, progress.advance, lambda text: print_line(text, console)
                )
        finally:
            leases.release(place)


def _log(
    design: SearchDesign,
    trials: Sequence[TrialOutcome],
    best: TrialOutcome,
    row: EffectRow | None,
    files: dict[str, bytes],
    store: Store,
) -> None:
    """Logs the search to MLflow: a run with the table, and a child run for each trial with its recipe."""
    experiment = f"{design.study}-search"
    effect = {"effect": row.effect.effect} if row else {}
    metrics = {"search_effect": best.effect or 0.0, "trials": float(len(trials)), **effect}
    search = log_finished_run(
        store, experiment, f"search of {design.study}", design, metrics, files, kind="search"
    )
    for trial in trials:
        found = {"search_effect": trial.effect} if trial.effect is not None else {"rise": trial.score}
        spec = SearchTrial(
            search=key(design),
            condition=with_values(design.condition, trial.values),
            seeds=design.seeds,
        )
        log_finished_run(
            store,
            experiment,
            point_label(trial.values) or texts.OWN,
            spec,
            {} if trial.failure else found,
            {},
            failed=bool(trial.failure),
            kind="trial",
            parent=search,
        )
