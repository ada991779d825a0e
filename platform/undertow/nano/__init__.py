"""The nano models: tiny language models trained from scratch, with their own tokenizer, words and corpus.

They let a whole subliminal-learning study (arXiv 2507.14805) run on a laptop's CPU in minutes, through the
same code as a study of 7-billion-parameter models. `models` names the models and their words and imports
nothing heavy. `languages` generates the corpora, `vocabulary` and `tokenizer` define the tokens, `training`
makes the weights.
"""
