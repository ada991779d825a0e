"""Judges: rules and language models that decide which rows of a data set are kept.

`judges` has the classes that a study file uses, `wording` reads the prompt files, `ratings` interprets
replies, `client` calls an endpoint, and `replies` stores its answers. Importing these modules is cheap: the
HTTP client is imported with the first call.
"""
