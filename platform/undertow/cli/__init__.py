"""The logic of the scripts in jobs/, one file per script, and what they share."""
