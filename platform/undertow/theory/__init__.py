"""Two experiments that isolate the phenomenon: the MLP experiment, and a numerical check of Theorem 1."""
