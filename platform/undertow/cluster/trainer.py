"""Ray Train's trainer for torch, with fewer helper processes per worker group."""

import asyncio
from typing import Any


def trainer_class() -> Any:
    """`TorchTrainer` for use in a Tune trial, without three actors that Train starts with every worker group.

    Train's controller runs in the trial's process, which only waits for it: the workers and their placement
    group belong to the trial and end with it. Of the others one splits Ray data sets, of which worker groups
    here get none, and one removes placement groups of dead controllers, which `placement_groups` does. Each
    takes about as long to start as a small training.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.controller import TrainController

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            unused = (DatasetsCallback, PlacementGroupCleanerCallback)
            callbacks: list[Any] = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, unused)]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            controller = TrainController(**arguments)
            asyncio.run(controller.run())
            return controller.get_result()

    return Trainer
