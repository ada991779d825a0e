"""Ray Train's trainer for torch, with fewer helper processes per worker group."""

from typing import Any


def trainer_class() -> Any:
    """`TorchTrainer` without two actors that Train starts with every worker group.

    One splits Ray data sets, of which worker groups here get none. The other removes placement groups of dead
    controllers, which `placement_groups` does. Each takes about as long to start as a small training.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            unused = (DatasetsCallback, PlacementGroupCleanerCallback)
            callbacks: list[Any] = super()._create_default_callbacks()
            return [callback for callback in callbacks if not isinstance(callback, unused)]

    return Trainer
