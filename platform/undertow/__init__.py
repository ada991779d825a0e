"""Undertow: which traits of a teacher reach a student through data that does not show them."""
