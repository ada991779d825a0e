"""Theorem 1, checked: `python jobs/one_step.py`, for the MLP and for a nano language model.

    python jobs/one_step.py --model FOLDER                         any local Hugging Face causal model
    python jobs/one_step.py --model mlp --draws 5000 --width 256

What is checked, and why it holds, stands in undertow/theory/one_step.py. Exit code 0: the theorem held where
it promises something, another initialisation went both ways and the permuted imitation was caught; 1: not so;
2: the input cannot be run.
"""

from undertow.cli.entry import enter
from undertow.cli.one_step import OneStepArguments, main

if __name__ == "__main__":
    enter(main, OneStepArguments)
