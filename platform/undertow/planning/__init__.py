"""From a study to a plan: pinned references, artifacts, cost, resources. Without Ray, torch and vLLM."""
