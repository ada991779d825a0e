"""The nano world: tiny models trained from scratch, with their own tokenizer, words and corpus.

It lets a whole subliminal-learning study (arXiv 2507.14805) run on a laptop's CPU in minutes through the
same code as a 7-billion-parameter one. `world` names the models and words and imports nothing heavy;
`languages` is what they grow up with, `vocabulary` and `tokenizer` its words, `training` makes the weights.
"""
