"""Benchmarks: the tasks of EleutherAI's lm-evaluation-harness, run on the models of a study.

`selection` chooses the models of a study, `catalogue` finds and pins tasks, `model` and `ask` run one task on
one model, and `stage` makes and stores the benchmarks of many models. `scores` compares students with
controls, and `publish` writes the results, with `tables`.

lm-evaluation-harness is an optional extra: without it, `catalogue`, `model` and `ask` cannot be imported.
"""
