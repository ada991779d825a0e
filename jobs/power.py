"""How many seeds does a study need? `python jobs/power.py --effect 0.3 --sd 0.1 --conditions 10`

    python jobs/power.py --pilot storage/sweeps/owls/TIME --effect 0.2  spreads from a finished sweep
    python jobs/power.py --seeds 5 --conditions 10                     what five seeds can show
    python jobs/power.py --took-off 0.6 --take 0.9                     seeds that fall into two modes

Answers by simulating studies and judging them with the platform's own code, in about ten seconds (longer for
--took-off with --no-paired). Exit code 0: answered; 2: the input cannot be used.
"""

from undertow.cli.entry import enter
from undertow.cli.power import PowerArguments, main

if __name__ == "__main__":
    enter(main, PowerArguments)
