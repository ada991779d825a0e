"""Can anybody see the trait in a sweep's data? `python jobs/detect.py --study owls`, from the store alone.

    python jobs/detect.py --study owls                      frequencies, a classifier, in-context effects
    python jobs/detect.py --study owls --model gpt-4.1      and a language model is asked (UNDERTOW_JUDGE_URL)

Every trait's data are compared with the control's of the same format, teacher and seed, in a form without
layout. Writes detection.json, detection.csv and a figure into the sweep's folder. Exit code 1: something that
was asked for is missing (a model's replies; data that cannot be read), and what there is was written.
"""

from undertow.cli.detect import DetectArguments, main
from undertow.cli.entry import enter

if __name__ == "__main__":
    enter(main, DetectArguments)
