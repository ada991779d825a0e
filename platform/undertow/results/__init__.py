"""The files that a sweep leaves, and their readers."""
