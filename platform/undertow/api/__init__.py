"""Calls to models behind an OpenAI-compatible endpoint: judges, and the reference models called api:NAME.

`endpoint` reads the address and limits from the environment, `client` sends requests concurrently until each
is answered or abandoned, `retries` decides which failures are retried, and `finetuning` calls a provider's
fine-tuning jobs. The openai library is imported when an endpoint is called.
"""
