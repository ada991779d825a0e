"""Checks Theorem 1 numerically: by default for the MLP and for a nano language model.

    python jobs/one_step.py --model FOLDER                         any local Hugging Face causal model
    python jobs/one_step.py --model mlp --draws 5000 --width 256

undertow/theory/one_step.py explains what is checked, and why it holds.

Exit code 0: the theorem holds where it applies, students with another initialisation move in both directions,
and the permuted imitation is detected; 1: otherwise; 2: invalid input.
"""

from undertow.cli.entry import enter
from undertow.cli.one_step import OneStepArguments, main

if __name__ == "__main__":
    enter(main, OneStepArguments)
