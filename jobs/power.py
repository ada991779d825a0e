"""Estimates how many seeds a study needs.

    python jobs/power.py --effect 0.3 --sd 0.1 --conditions 10               seeds for an effect of 0.3
    python jobs/power.py --pilot storage/sweeps/owls/TIME --effect 0.2       deviations of a finished sweep
    python jobs/power.py --seeds 5 --conditions 10                           what five seeds can detect
    python jobs/power.py --took-off 0.6 --take 0.9                           seeds that fall into two modes
    python jobs/power.py --effect-scale log-odds --effect 1                  effects in log-odds

Simulates studies and gives them verdicts with the platform's own code. Takes about ten seconds (longer for
--took-off with --no-paired).

Exit code 0: done; 2: invalid input.
"""

from undertow.cli.entry import enter
from undertow.cli.power import PowerArguments, main

if __name__ == "__main__":
    enter(main, PowerArguments)
