"""TruthfulQA, MMLU or any other task of lm-evaluation-harness for the models of a study that was run.

    python jobs/benchmark.py --study owls --scale paper --tasks truthfulqa_mc1 truthfulqa_mc2 mmlu
    python jobs/benchmark.py --study my_study.py --tasks my_task --include-path ./my_tasks --limit 100

Asks the reference models, students and control students, and leaves benchmarks.csv (a row a condition, task
and metric) and benchmark_models.csv (a row a model) in the folder of the study's newest sweep. What was asked
before is not asked again, so name all tasks that the tables are to hold. Needs the extra:
pip install "undertow[benchmarks]".
"""

from functools import partial
from pathlib import Path

from undertow.cli.benchmark import BenchmarkArguments, main
from undertow.cli.entry import enter

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), BenchmarkArguments)
