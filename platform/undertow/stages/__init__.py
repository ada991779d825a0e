"""The stages: each maps artifacts to one artifact and commits it atomically."""
