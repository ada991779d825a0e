"""Finds tasks of the harness by name, and pins their content by a hash.

A shipped task loads its data from the Hub, or from a local copy: the folder `Places.data` contains data sets
under their Hub names (DATA/cais/mmlu, with the layout of the Hub's repository). A user's own tasks are YAML
files in the harness's format in the folder `Places.tasks`; the Python functions that they refer to are run,
like a study file. Data sets with a loading script are not (`trust_remote_code` stays off).

The hash of a definition covers the tasks' settings, the Python files in their folders and every document, but
not the location of the documents: the same questions from the Hub and from a local copy are the same
benchmark.
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
PLACES = ("dataset_path", "dataset_name", "dataset_kwargs")  # not hashed, since the documents are
SOURCE = "config_source"  # in a task's metadata: the path of its YAML file, not hashed either


@dataclass(frozen=True)
class Places:
    """The user's folders of tasks in the harness's format and of data sets under their Hub names, or "".

    They are not part of a benchmark's key: each task's definition covers the content.
    """

    tasks: str = ""
    data: str = ""

    @classmethod
    def of(cls, tasks: str, data: str) -> "Places":
        """Makes the paths absolute. Raises UserError if a folder does not exist."""
        for flag, folder in (("--include-path", tasks), ("--data", data)):
            if folder and not Path(folder).is_dir():
                raise UserError(
                    f"{flag} {folder}: the folder does not exist; give the path of an existing one"
                )
        return cls(*(str(Path(folder).absolute()) if folder else "" for folder in (tasks, data)))


def pin(task: HarnessTask, places: Places) -> list[HarnessTask]:
    """Fills in the harness's version and the hash of the definition.

    A name that stands for several tasks without a common score gives one task for each of them. Raises
    UserError for an unknown name, unreadable data, or settings that the task does not support.
    """
    known = _manager(places.tasks).task_index
    if task.name not in known:
        hint = "" if places.tasks else "; for tasks of your own, give their folder: --include-path DIR"
        raise UserError(f"--tasks {task.name}: unknown task; {suggestion(task.name, known)}{hint}")
    found = load(task.name, task.few_shot, places)
    group = found.groups.get(task.name)
    if task.name in found.tasks or (group is not None and group.has_aggregation):
        return [replace(task, harness=lm_eval.__version__, definition=definition(found))]
    return [member for name in found.tasks for member in pin(replace(task, name=name), places)]


@dataclass(frozen=True)
class Loaded:
    """The harness's tasks and groups of one name, and the Python files in the folders of the tasks."""

    tasks: Mapping[str, Task]
    groups: Mapping[str, Group]
    code: Mapping[str, bytes]

    @property
    def whole(self) -> dict[str, Any]:
        """The argument `task_dict` of `lm_eval.evaluate`."""
        children = {name: group.child_names for name, group in self.groups.items()}
        return {"tasks": dict(self.tasks), "groups": dict(self.groups), "group_map": children}


@cache
def load(name: str, few_shot: int | None, places: Places) -> Loaded:
    """Loads the tasks of a name, with their documents and the number of few-shot examples.

    Cached in the process: a group can have dozens of data sets, and every model of a study needs them. Raises
    UserError if the documents cannot be read or the tasks do not support `few_shot`.
    """
    manager = _manager(places.tasks)
    try:
        with _reading(places):
            found = manager.load([name])
    except Exception as error:  # from the Hub, the format of the data, or the user's YAML or Python files
        raise UserError(
            f"--tasks {name}: cannot be read ({type(error).__name__}: {last_line(error)}); "
            "check the network and HF_HOME, or give a folder of data sets under their Hub names: --data DIR"
        ) from None
    for task in found["tasks"].values():
        _settle(task, few_shot)
    return Loaded(found["tasks"], found.get("groups", {}), dict(_code(manager, found["tasks"])))


@contextlib.contextmanager
def _reading(places: Places) -> Iterator[None]:
    """Makes `datasets` prefer the folders in `places.data` to the Hub.

    `datasets` resolves a data set's name relative to the working directory first. Its cache is keyed by a
    folder's name and card and not by its content (5.2 returns the rows of another folder of the same name),
    so the data of a user's folders get a temporary cache.
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
    """A temporary folder that is removed when the process exits; documents are read from it until then."""
    folder = tempfile.mkdtemp(prefix="undertow-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _settle(task: Task, few_shot: int | None) -> None:
    """Sets the number of few-shot examples of a task. Raises UserError if the task cannot be run that way."""
    if getattr(task, "MULTIMODAL", False) or getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            f"--tasks {task.task_name}: tasks with images or audio, or that run generated code, are "
            "not supported; choose another task"
        )
    own = task.get_config("num_fewshot")
    if few_shot and own == 0:
        raise UserError(
            f"--few-shot {few_shot}: {task.task_name} supports no examples beyond those in its own prompt; "
            "run it separately, without --few-shot"
        )
    task.set_config(key="num_fewshot", value=(own or 0) if few_shot is None else few_shot)


@cache
def _manager(own: str) -> TaskManager:
    """The index of all tasks; the user's own take precedence. Indexing the shipped 14,000 takes seconds."""
    if not own:
        return TaskManager()
    manager = TaskManager(include_path=own, include_defaults=False)
    for name, entry in _manager("").task_index.items():
        manager.task_index.setdefault(name, entry)
    return manager


def _code(manager: TaskManager, names: Mapping[str, Task]) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of the Python files next to the tasks' YAML files, which may refer to them."""
    entries = [manager.task_index.get(name) for name in names]
    for folder in sorted({entry.yaml_path.parent for entry in entries if entry and entry.yaml_path}):
        for path in sorted(folder.glob("*.py")):
            yield path.name, path.read_bytes()


def definition(found: Loaded) -> str:
    """The hash of everything that determines a score, except for the model and the harness itself."""
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
    """Represents values that JSON does not support: a function by its source, bytes by their hash."""
    if callable(value):
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):
            return str(getattr(value, "__qualname__", type(value).__name__))
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
