"""Models, sizes and recipes that study files use: the nano world and the paper's scale."""
