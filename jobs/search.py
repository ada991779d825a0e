"""Searches the recipe that transmits a trait most strongly, and confirms it on fresh seeds.

    python jobs/search.py --search learning_rate=log:0.01:0.3 epochs=1,2,4
    python jobs/search.py --study owls_lora --search rank=2,4,8 rows=500:1500 --scheduler asha --trials 20
    python jobs/search.py --study owls --condition "cat gpt2-1 → gpt2-1" --search epochs=1,2,4 --plan

Runs the condition by the study's own recipe, then trials of other recipes with Ray Tune, each with its
control students, then the strongest recipe on seeds that took no part in the search. Only the last effect is
unbiased. Trained students are cached, so running the command again continues an interrupted search.

Exit code 0: all trials and the confirmation succeeded; 1: a trial or a condition failed; 2: invalid input
(nothing was written), or the storage cannot be written (finished artifacts are kept).
"""

from functools import partial
from pathlib import Path

from undertow.cli.entry import enter
from undertow.cli.search import SearchArguments, main

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), SearchArguments)
