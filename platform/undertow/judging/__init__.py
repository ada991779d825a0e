"""Judges: rules and language models that say which rows of a dataset are kept.

`judges` has what a study file writes; `wording` the prompt files; `scales` what a reply means; `client` the
calls to an endpoint; `replies` what was answered before. Nothing here is heavy until an endpoint is called.
"""
