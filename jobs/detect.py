"""Tests whether the trait can be detected in the data of a sweep, using only the storage.

    python jobs/detect.py --study owls                      frequencies, a classifier, in-context effects
    python jobs/detect.py --study owls --model gpt-4.1      also a language model (at UNDERTOW_JUDGE_URL)

Compares the data of every trait with the control data of the same format, teacher and seed, in a form without
layout. Writes detection.json, detection.csv and a figure into the sweep's folder.

Exit code 0: done; 1: a requested part is missing (replies of the model, data that cannot be read), the rest
was written; 2: invalid input.
"""

from undertow.cli.detect import DetectArguments, main
from undertow.cli.entry import enter

if __name__ == "__main__":
    enter(main, DetectArguments)
