"""Traits: what a teacher is given and a student is evaluated for. One file per family of traits."""
