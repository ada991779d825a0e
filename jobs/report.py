"""Makes a sweep's report again, from the store alone: `python jobs/report.py --study owls`.

Writes report.html, effects.csv, students.csv and the figures into the sweep's folder. It needs neither Ray
nor the study's file, and the same answers give the same numbers.
"""

from undertow.cli.entry import enter
from undertow.cli.report import ReportArguments, main

if __name__ == "__main__":
    enter(main, ReportArguments)
