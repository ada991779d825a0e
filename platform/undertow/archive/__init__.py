"""One archive of a study that anyone can check: export, verification and lineage."""
