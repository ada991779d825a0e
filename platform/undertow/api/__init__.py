"""Models behind an OpenAI-compatible endpoint: judges, and teachers, students and references of a provider.

`endpoint` says where they are served, by the environment alone; `client` asks so many at a time, each until
it is answered or given up; `retries` which failures are worth another attempt. Nothing here is heavy until an
endpoint is called.
"""
