"""Evaluates the models of a finished study on tasks of lm-evaluation-harness, such as TruthfulQA and MMLU.

    python jobs/benchmark.py --study owls --scale paper --tasks truthfulqa_mc1 truthfulqa_mc2 mmlu
    python jobs/benchmark.py --study my_study.py --tasks my_task --include-path ./my_tasks --limit 100

Evaluates reference models, students and control students. Writes benchmarks.csv (one row per condition, task
and metric) and benchmark_models.csv (one row per model, task and metric) into the folder of the study's
newest sweep. The tables contain the tasks of this call; cached results are reused, so list all tasks that the
tables should contain. The locked environment includes
the harness; elsewhere run `pip install -e ".[benchmarks]"` in the clone.

Exit code 0: done; 1: some benchmarks failed; 2: invalid input.
"""

from functools import partial
from pathlib import Path

from undertow.cli.benchmark import BenchmarkArguments, main
from undertow.cli.entry import enter

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), BenchmarkArguments)
