"""The result files of a sweep, and their readers."""
