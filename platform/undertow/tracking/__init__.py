"""MLflow as the place where students are compared: runs, logged models, their names and saved views."""
