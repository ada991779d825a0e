"""Presets for study files: models, sizes and recipes of the nano scale and of the paper's scale."""
