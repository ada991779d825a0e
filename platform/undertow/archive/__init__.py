"""Archives of studies: export and verification."""
