"""Ray Train's trainer for torch, with fewer processes per worker group and a faster start."""

import asyncio
import os
from contextlib import suppress
from typing import Any

from ray.train.backend import Backend, BackendConfig

from undertow.cluster.address import is_local


def make_trainer(train: Any, *, on_gpu: bool, **settings: Any) -> Any:
    """A trainer for use in a Tune trial, without actors that Train starts with every worker group.

    Train's controller runs in the trial's process, which only waits for it: the workers and their placement
    group belong to the trial and end with it. Of the others one splits Ray data sets, of which worker groups
    here get none, one removes placement groups of dead controllers, which `placement_groups` does, and one
    synchronizes calls of `ray.train.report`, which the workers do not make. Each takes about as long to start
    as a small training.

    A group whose start fails while its workers connect is ended at once. Train only forgets it: if a worker's
    node was lost, the others would wait for it for half an hour, with the GPUs that the next start needs.
    Train would also start workers that die at each start again without end. Here such a start counts for
    `FailureConfig.max_failures`, and its error has the reason.

    On a local Ray, no coordinator asks an autoscaler for nodes, and the workers inherit the environment
    instead of being started with a copy of it, for which Ray starts each of them twice.

    Args:
        train: the function that each worker calls, in a process group of torch with the other workers.
        settings: further arguments of the trainer.
    """
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
    from ray.train.v2._internal.execution.worker_group import WorkerGroup
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    class EndedWorkerGroup(WorkerGroup):
        def _start(self) -> None:
            try:
                super()._start()
            except Exception as error:
                if self.has_started():
                    self.abort()
                if isinstance(error, WorkerGroupStartupFailedError) and error.__cause__:
                    raise WorkerGroupStartupFailedError(str(error.__cause__)) from error
                raise

    class Policy(DefaultFailurePolicy):
        failed_starts = 0

        def make_decision(self, training_failed_error: Any) -> Any:
            failure = getattr(training_failed_error, "controller_failure", None)
            self.failed_starts += isinstance(failure, WorkerGroupStartupFailedError)
            if self.failed_starts > self.failure_config.max_failures:
                return FailureDecision.RAISE
            return super().make_decision(training_failed_error)

    class Controller(TrainController):
        worker_group_cls = EndedWorkerGroup

    class Trainer(DataParallelTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            unused = (DatasetsCallback, PlacementGroupCleanerCallback)
            callbacks: list[Any] = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, unused)]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            _without_synchronization()
            if is_local():
                _without_environments()
                arguments["scaling_policy"] = _without_coordinator(arguments["scaling_policy"])
            arguments["failure_policy"] = Policy(self.run_config.failure_config)
            controller = Controller(**arguments)
            asyncio.run(controller.run())
            return controller.get_result()

    return Trainer(train, backend_config=_on_gpus() if on_gpu else Gloo(), **settings)


class _NoSynchronization:
    """Takes the place of Train's actor that synchronizes reports, of which the workers make none."""

    @classmethod
    def options(cls, **options: Any) -> "_NoSynchronization":
        return cls()

    def remote(self, **settings: Any) -> "_NoSynchronization":
        return self


def _without_synchronization() -> None:
    """Worker groups of this process start no actor for the synchronization of reports."""
    from ray.train.v2._internal.execution.worker_group import state, worker_group

    worker_group.SynchronizationActor = _NoSynchronization
    state._shutdown_sync_actor = lambda actor: None


def _without_environments() -> None:
    """Workers that this process starts get no environment of their own."""
    from ray.train.v2._internal import constants

    constants.ENV_VARS_TO_PROPAGATE.clear()


def _without_coordinator(policy: Any) -> Any:
    """The policy for a group of a fixed size, without requests for nodes."""
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

    class WithoutCoordinator(FixedScalingPolicy):
        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    return WithoutCoordinator(policy.scaling_config)


def _on_gpus() -> BackendConfig:
    from ray.train.torch import TorchConfig

    return TorchConfig(backend="nccl")


class Gloo(BackendConfig):
    """What Ray's TorchConfig(backend="gloo") does, but only the workers import torch.

    A trial that imports torch for its controller starts its workers two seconds later.
    """

    @property
    def backend_cls(self) -> Any:
        return _GlooBackend


class _GlooBackend(Backend):
    """Connects the workers of a group with each other before training, and disconnects them after it."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        import ray
        from ray.train._internal.utils import get_address_and_port

        address, port = worker_group.execute_single(0, get_address_and_port)
        world = len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(rank, _connect, address, port, rank, world)
                for rank in range(world)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        import ray
        from ray.train.constants import DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S as PATIENCE

        if len(worker_group) > 1:
            with suppress(ray.exceptions.GetTimeoutError):  # a worker that waits for one that has died
                ray.get(worker_group.execute_async(_disconnect), timeout=PATIENCE)


def _connect(address: str, port: int, rank: int, world: int) -> None:
    """Runs in a worker: joins the process group, whose store is in the process of rank 0."""
    from undertow.engines.lean_imports import import_transformers

    import_transformers()  # first: Ray's module would import torch with Python's collections enabled
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    _set_torch_distributed_env_vars()
    _setup_torch_process_group("gloo", rank, world, "env://")


def _disconnect() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
