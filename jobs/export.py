"""Exports a study as one archive or a trained model as a folder, and verifies archives.

    python jobs/export.py --study owls --to owls.zip     specs, manifests, answers, effects, report
    python jobs/export.py --verify owls.zip              on any machine: needs no GPU, Ray or model
    python jobs/export.py --model KEY --to FOLDER        a student or teacher as a whole model

Exit code 0: written, or verified without a difference; 1: the verification found differences, one per line;
2: invalid input.
"""

from undertow.cli.entry import enter
from undertow.cli.export import ExportArguments, main

if __name__ == "__main__":
    enter(main, ExportArguments)
