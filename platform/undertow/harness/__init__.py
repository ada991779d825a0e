"""EleutherAI's lm-evaluation-harness, an optional extra: the literature's tasks, asked of any of our models.

Knows neither studies nor stores, nor Ray; `stages/benchmark.py` does. Without the extra only `task` imports.
"""
