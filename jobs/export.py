"""One archive of a study that anybody can check.

    python jobs/export.py --study owls --to owls.zip     specs, manifests, answers, effects, report
    python jobs/export.py --verify owls.zip              on any machine: no GPU, no Ray, no model

Exit code of the check: 0 all holds; 1 something does not, and each difference is named by its place.
"""

from undertow.cli.entry import enter
from undertow.cli.export import ExportArguments, main

if __name__ == "__main__":
    enter(main, ExportArguments)
