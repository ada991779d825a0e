"""Runs the MLP experiment: by default on scikit-learn's digits, in about a minute.

    python jobs/mlp.py --preset paper --data MNIST_FOLDER          the settings of the paper
    python jobs/mlp.py --vary auxiliary=2,3,10 width=64,256        a sweep over the product of two axes
    python jobs/mlp.py --vary "distances=0|0.25|0.5|0.75|1"        initialisations between same and other
    python jobs/mlp.py --vary width=64,128,256,512 --shards 8      each setting split into 8 Ray tasks

An axis is any field of undertow.theory.settings.Experiment. Finished settings are cached in the storage.

Exit code 0: done; 2: invalid input.
"""

from undertow.cli.entry import enter
from undertow.cli.mlp import MLPArguments, main

if __name__ == "__main__":
    enter(main, MLPArguments)
