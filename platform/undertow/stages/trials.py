"""Trials of Ray Tune: the parameters and the name that say what one trains, and the environment of all.

The parameters have the names and values of the columns in MLflow (`tracking.names.columns`), so that a trial
is found in both.
"""

import re
from collections.abc import Iterable, Sequence

from undertow.stages.training_group import Group, recipe_of
from undertow.stages.weights import Trained
from undertow.study.names import short
from undertow.tracking.names import columns

SHOWN = ("trait", "format", "teacher", "student", "recipe")
PLURALS = {"teacher": "teacher models", "student": "student models"}
LONGEST_NAME = 72  # characters of a trial's name, which is also the name of its folder
FEW_SEEDS = 6  # seeds that are listed if they are not consecutive
# A trial only drives its worker groups. It reserves no CPU, because trials that held the CPUs which their own
# workers need would wait forever; but a placement group may not be empty, and every node has memory.
TRIAL_MEMORY = 1_000_000  # bytes


def group_parameters(group: Group) -> dict[str, str]:
    """The parameters of a group's trial.

    A parameter has the value that all models of the group share. If they differ (a group may hold all
    students of a nano model), it is the number of different values, such as "3 traits". Teachers have neither
    format nor student, which are "".
    """
    models = [_columns(model) for model in group.models]
    shown = {name: _summary(name, [one.get(name, "") for one in models]) for name in SHOWN}
    return shown | {"seeds": seeds_in_words(model.seed for model in group.models), "models": str(len(models))}


def group_name(number: int, parameters: dict[str, str]) -> str:
    """The name of a group's trial: "002-owl-numbers-gpt2-0-gpt2-1-steering-seeds-0-4"."""
    seeds = parameters["seeds"]
    words = [parameters[name] for name in SHOWN]
    return trial_name(f"{number:03d}", [*words, seeds if seeds.endswith("seeds") else f"seeds {seeds}"])


def trial_name(identifier: str, words: Iterable[str]) -> str:
    """A name that begins with a unique `identifier`, in characters that every file system allows."""
    clean = (re.sub(r"[^A-Za-z0-9_.=+]+", "-", word).strip("-") for word in (identifier, *words))
    return "-".join(word for word in clean if word)[:LONGEST_NAME].rstrip("-")


def seeds_in_words(seeds: Iterable[int]) -> str:
    """Seeds without duplicates: "0", "0-4", "0 3 7", or the number of many: "9 seeds"."""
    found = sorted(set(seeds))
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]}-{found[-1]}"
    return " ".join(map(str, found)) if len(found) <= FEW_SEEDS else f"{len(found)} seeds"


def _columns(model: Trained) -> dict[str, str]:
    """The columns of a model in MLflow, with short names of models, and a teacher's recipe."""
    found = columns(model) | {"recipe": recipe_of(model).name}
    return found | {name: short(found[name]) for name in ("teacher", "student") if name in found}


def _summary(name: str, values: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"{len(distinct)} {PLURALS.get(name, f'{name}s')}"


def set_environment_of_trials() -> None:
    """Stops Tune from copying AWS keys into its trials' runtime environment, which Ray logs.

    On a local Ray nothing is copied: trials inherit it, and Ray would start each process twice.
    """
    from ray.tune.execution import class_cache

    from undertow.cluster.address import is_local

    copied = class_cache.ENV_VARS_TO_PROPAGATE
    if is_local():
        copied.clear()
        class_cache.DEFAULT_ENV_VARS.clear()
    copied.difference_update({name for name in copied if name.startswith("AWS_")})
