"""Auditing: which trait a data set is likely to transmit, before a model is trained on it.

Given rows of unknown origin, a candidate for the model that wrote them and a bank of candidate traits, each
score (`scores.TraitScore`) asks how much better the rows fit the model with a trait than without it. The same
scores of the model's own answers to the same prompts are the null hypothesis: rows that the unmodified model
wrote are reported as clean at the stated rate of false alarms. Rows that differ from these answers in a way
that no trait explains are reported as unlike anything the audit is calibrated on (`finding`).

Nothing here starts Ray or an engine: one loaded model gives the token probabilities, states and gradients of
all scores. Probe models, one per trait, are ordinary artifacts and are trained once per storage.

To add a score, define a `scores.TraitScore` or `scores.Baseline` in a file of its own and add it to the table
in `make`.

Not covered: probabilities of transmission without a `calibration.Calibration`. One is shipped, for nano
models.
"""
