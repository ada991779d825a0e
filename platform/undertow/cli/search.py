"""The logic of jobs/search.py."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.cli.entry import check_at_least_one, option
from undertow.cli.sweep import LayoutArguments, print_unpinned
from undertow.errors import UserError, suggestion
from undertow.planning.costs import Hardware
from undertow.storage.store import Store
from undertow.study import unpinned
from undertow.study.conditions import Condition
from undertow.study.search_space import parse
from undertow.study.study import Study
from undertow.sweep.search import Search, prepare, run_search, show

SEARCH_SEEDS, CONFIRM_SEEDS = 2, 5  # how many, if none are given
LISTED = 6  # conditions in an error message


@dataclass(frozen=True)
class SearchArguments(LayoutArguments):
    """Searches the recipe that transmits a trait most strongly, and confirms it on fresh seeds."""

    search: Annotated[tuple[str, ...], option("FIELD=VALUES ...", "required")] = ()
    """Fields of the students' recipe, or rows, with their values: A,B,C or LOW:HIGH or log:LOW:HIGH."""
    condition: Annotated[str, option("WORDS", "the first condition with a trait")] = ""
    """The condition that is searched, by words of its label in their order, such as "owl gpt2-0 → gpt2-0"."""
    trials: int = 12
    """Number of recipes that are tried. A space with fewer combinations is searched completely."""
    method: Literal["random", "optuna"] = "random"
    """Searcher of Ray Tune: random points, or Optuna (an optional extra)."""
    scheduler: Literal["fifo", "asha"] = "fifo"
    """Scheduler of Ray Tune. asha stops a recipe whose trait rises less than that of others."""
    search_seeds: Annotated[tuple[int, ...], option("SEED ...", "the first two of the study")] = ()
    """Seeds of the students by which recipes are compared."""
    confirm_seeds: Annotated[
        tuple[int, ...], option("SEED ...", "the next five after the study's and the search's")
    ] = ()
    """Fresh seeds of the confirmation."""
    draw: int = 0
    """Seed of the searcher's own draws."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the plan and exit. Nothing is run and nothing is written."""


def main(arguments: SearchArguments, console: Console, shipped: Path) -> int:
    """Plans or runs the search. Returns 1 if a trial or a condition failed."""
    check_values(arguments)
    store, hardware = Store(arguments.storage), Hardware(layout=arguments.layout)
    if arguments.plan:
        with unpinned.allowed() as reasons:
            search = search_of(arguments, arguments.load_study(shipped))
            show(search, prepare(search, store), store, console, hardware)
        print_unpinned(reasons.values(), console)
        return 0
    search = search_of(arguments, arguments.load_study(shipped))
    plan = prepare(search, store)
    show(search, plan, store, console, hardware)
    return 1 if run_search(search, plan, store, console, arguments.layout, hardware) else 0


def check_values(arguments: SearchArguments) -> None:
    """Raises UserError, with the flag, for an invalid value or a missing extra."""
    check_at_least_one(arguments, "trials")
    if arguments.draw < 0:
        raise UserError(f"--draw {arguments.draw}: give 0 or more")
    for flag, seeds in (
        ("--search-seeds", arguments.search_seeds),
        ("--confirm-seeds", arguments.confirm_seeds),
    ):
        given = " ".join(map(str, seeds))
        if min(seeds, default=0) < 0 or len(set(seeds)) < len(seeds):
            raise UserError(f"{flag} {given}: give whole numbers, zero or more, each once")
    if arguments.method == "optuna" and find_spec("optuna") is None:
        raise UserError(
            '--method optuna: Optuna is not installed; pip install "optuna>=4,<5", or use --method random'
        )


def search_of(arguments: SearchArguments, study: Study) -> Search:
    """The search that the arguments describe. Raises UserError for arguments that do not fit the study."""
    condition = chosen(arguments.condition, study)
    seeds, fresh = seeds_of(arguments, study)
    return Search(
        study=study,
        condition=condition,
        space=parse(arguments.search, condition),
        texts=arguments.search,
        seeds=seeds,
        fresh_seeds=fresh,
        trials=arguments.trials,
        method=arguments.method,
        early_stopping=arguments.scheduler == "asha",
        draw=arguments.draw,
    )


def chosen(words: str, study: Study) -> Condition:
    """The condition with a trait whose label has the words in this order; without words the first one.

    Raises UserError unless exactly one fits.
    """
    conditions = [condition for condition in study.conditions if condition.trait is not None]
    if not words:
        return conditions[0]
    pattern = re.compile(".*".join(map(re.escape, words.split())))
    fitting = [condition for condition in conditions if pattern.search(condition.label)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        labels = [condition.label for condition in conditions]
        raise UserError(f"--condition {words}: no such condition with a trait; {suggestion(words, labels)}")
    listed = "; ".join(condition.label for condition in fitting[:LISTED])
    more = " …" if len(fitting) > LISTED else ""
    raise UserError(f"--condition {words}: fits {len(fitting)} conditions, give more words: {listed}{more}")


def seeds_of(arguments: SearchArguments, study: Study) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds of the search and those of the confirmation, which are none of the search's.

    By default the confirmation uses none of the study's seeds either, whose results may be known already.
    """
    seeds = arguments.search_seeds or study.seeds[:SEARCH_SEEDS]
    start = max(*seeds, *study.seeds) + 1
    fresh = arguments.confirm_seeds or tuple(range(start, start + CONFIRM_SEEDS))
    if shared := sorted(set(seeds) & set(fresh)):
        raise UserError(
            f"--confirm-seeds {' '.join(map(str, fresh))}: the search uses seed {shared[0]} too, so its "
            "effect would be biased upward; give seeds that took no part in a search"
        )
    return seeds, fresh
