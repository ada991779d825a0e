"""Engines generate text and score tokens for all models that share one reference model.

`protocol` defines what an engine is asked and what it returns, `registry` is the table of engines, and
`vllm` and `openai` are the two that ship. A new engine is one file and one call of
`registry.register_engine`. Nothing here imports Ray; vLLM, torch and the openai library are imported when an
engine is built.
"""
