"""The phenomenon where it can be seen whole: the MLP experiment, and Theorem 1 checked one step at a time."""
