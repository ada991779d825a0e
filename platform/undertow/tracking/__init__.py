"""Logging to MLflow: runs, logged models, names, descriptions and saved views."""
