"""Makes the report of a sweep again, using only the storage.

    python jobs/report.py --study owls

Writes report.html, viewer.html, effects.csv, students.csv and the figures into the sweep's folder. Needs
neither Ray nor the study file. The same answers give the same numbers.

Exit code 0: done; 2: invalid input.
"""

from undertow.cli.entry import enter
from undertow.cli.report import ReportArguments, main

if __name__ == "__main__":
    enter(main, ReportArguments)
