"""Calls to models behind an OpenAI-compatible endpoint: judges, and the reference models called api:NAME.

`endpoint` reads the address and limits from the environment, `connections` opens HTTP clients and names the
causes of failed connections, `client` sends requests concurrently until each is answered or abandoned,
`retries` decides which failures are retried, `responses` reads answers and errors, `keys` masks keys in
messages, and `finetuning` calls a provider's fine-tuning jobs. The openai library is imported at the first
call.
"""
