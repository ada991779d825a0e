"""A study from plan to report."""
