"""Files, artifacts, manifests, leases and redaction of secrets."""
