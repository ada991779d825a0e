"""Finding the harness's tasks by name, and pinning what they ask.

A shipped task takes its data from the hub, or from a local copy: under `Places.data` lie data sets by their
hub names (DATA/cais/mmlu, laid out as the hub's repository is). A user's own tasks are YAML files in the
harness's format under `Places.tasks`; the Python functions they name are run, as a study file is. Data sets
that are programs are not (`trust_remote_code` stays off).

The definition's hash covers the tasks' settings, the Python files beside them and every document, and not
where the documents were read: the same questions from the hub and from a local copy are the same benchmark.
"""

import atexit
import contextlib
import hashlib
import inspect
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import lm_eval
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from undertow.errors import UserError, last_line, suggestion
from undertow.study.harness_task import HarnessTask

DIGITS = 32
PLACES = ("dataset_path", "dataset_name", "dataset_kwargs")  # the documents themselves are hashed
SOURCE = "config_source"  # among a task's metadata: the path of its YAML file


@dataclass(frozen=True)
class Places:
    """Folders of a user's own, or "": tasks in the harness's format, and data sets by their hub names.

    They say where things are read, never what comes out: the content is in each task's definition.
    """

    tasks: str = ""
    data: str = ""

    @classmethod
    def of(cls, tasks: str, data: str) -> "Places":
        """Absolute places. Raises UserError where there is no such folder."""
        for flag, place in (("--include-path", tasks), ("--data", data)):
            if place and not Path(place).is_dir():
                raise UserError(f"{flag} {place}: there is no such folder")
        return cls(*(str(Path(place).absolute()) if place else "" for place in (tasks, data)))


def pin(task: HarnessTask, places: Places) -> list[HarnessTask]:
    """The task with version and definition filled in; of a name for several without a score of its own, each.

    Raises UserError for an unknown name, data that cannot be read, or a task that cannot be asked like this.
    """
    known = _manager(places.tasks).task_index
    if task.name not in known:
        own = "" if places.tasks else "; --include-path DIR names a folder of your own tasks"
        raise UserError(f"--tasks {task.name}: no such task; {suggestion(task.name, known)}{own}")
    found = load(task.name, task.few_shot, places)
    group = found.groups.get(task.name)
    if task.name in found.tasks or (group is not None and group.has_aggregation):
        return [replace(task, harness=lm_eval.__version__, definition=definition(found))]
    return [one for name in found.tasks for one in pin(replace(task, name=name), places)]


@dataclass(frozen=True)
class Loaded:
    """A name's tasks and groups as the harness has them, with the Python files beside the tasks."""

    tasks: Mapping[str, Task]
    groups: Mapping[str, Group]
    code: Mapping[str, bytes]

    @property
    def whole(self) -> dict[str, Any]:
        """As `lm_eval.evaluate` takes them."""
        children = {name: group.child_names for name, group in self.groups.items()}
        return {"tasks": dict(self.tasks), "groups": dict(self.groups), "group_map": children}


@cache
def load(name: str, few_shot: int | None, places: Places) -> Loaded:
    """A name's tasks with their documents and the examples they are asked with.

    Remembered in the process, since a group has dozens of data sets and is asked of model after model.
    Raises UserError where the documents cannot be read, or the tasks cannot be asked like this.
    """
    manager = _manager(places.tasks)
    try:
        with _reading(places):
            found = manager.load([name])
    except Exception as error:  # of the hub, of the data's format, of a user's own YAML or Python
        raise UserError(
            f"--tasks {name}: cannot be read ({type(error).__name__}: {last_line(error)}); "
            "check the network and HF_HOME, or give a folder of data sets by their hub names: --data DIR"
        ) from None
    for task in found["tasks"].values():
        _settle(task, few_shot)
    return Loaded(found["tasks"], found.get("groups", {}), dict(_code(manager, found["tasks"])))


@contextlib.contextmanager
def _reading(places: Places) -> Iterator[None]:
    """Has `datasets` take folders of a data set's name in `places.data` before the hub.

    Its cache goes by a folder's name and card, not by its content (5.2: the rows of another folder come back
    under the same name), so that what is read from a user's folders has a cache of its own.
    """
    with contextlib.ExitStack() as until_read:
        if places != Places():
            until_read.callback(
                setattr, datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE
            )
            datasets.config.HF_DATASETS_CACHE = _scratch(places)
        until_read.enter_context(contextlib.chdir(places.data or "."))
        yield


@cache
def _scratch(places: Places) -> Path:
    """A folder that lasts as long as the process, which reads documents from it."""
    folder = tempfile.mkdtemp(prefix="undertow-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _settle(task: Task, few_shot: int | None) -> None:
    """Sets how many examples a task is asked with. Raises UserError for what it cannot be."""
    if getattr(task, "MULTIMODAL", False) or getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            f"--tasks {task.task_name}: it asks about images or sound, or runs what a model writes"
        )
    own = task.get_config("num_fewshot")
    if few_shot and own == 0:
        raise UserError(
            f"--few-shot {few_shot}: {task.task_name} takes no examples but those in its own prompt; "
            "ask it in a call of its own, without --few-shot"
        )
    task.set_config(key="num_fewshot", value=(own or 0) if few_shot is None else few_shot)


@cache
def _manager(own: str) -> TaskManager:
    """The index of every task: some seconds for the harness's 14,000; a user's own stand before them."""
    if not own:
        return TaskManager()
    manager = TaskManager(include_path=own, include_defaults=False)
    for name, entry in _manager("").task_index.items():
        manager.task_index.setdefault(name, entry)
    return manager


def _code(manager: TaskManager, names: Mapping[str, Task]) -> Iterator[tuple[str, bytes]]:
    """The Python files in the folders of the tasks' YAML files, whose functions may be part of a task."""
    entries = [manager.task_index.get(name) for name in names]
    for folder in sorted({entry.yaml_path.parent for entry in entries if entry and entry.yaml_path}):
        for path in sorted(folder.glob("*.py")):
            yield path.name, path.read_bytes()


def definition(found: Loaded) -> str:
    """The hash of all that a task's or group's scores follow from but the model and the harness itself."""
    hashes = hashlib.sha256()

    def add(value: object) -> None:
        hashes.update(json.dumps(value, sort_keys=True, default=_plain).encode() + b"\0")

    for name, task in sorted(found.tasks.items()):
        settings = {k: v for k, v in task.dump_config().items() if k not in PLACES}
        settings["metadata"] = {k: v for k, v in settings.get("metadata", {}).items() if k != SOURCE}
        add([name, settings])
        for document in task.eval_docs:
            add(document)
        for document in (task.fewshot_docs() or ()) if task.get_config("num_fewshot") else ():
            add(document)
    for name, group in sorted(found.groups.items()):
        add([name, group.child_names, [vars(metric) for metric in group.aggregate_metric_list or ()]])
    for name, content in found.code.items():
        add([name, hashlib.sha256(content).hexdigest()])
    return hashes.hexdigest()[:DIGITS]


def _plain(value: Any) -> object:
    """What JSON has no form for: a function is its source, bytes their hash."""
    if callable(value):
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):
            return str(getattr(value, "__qualname__", type(value).__name__))
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
