"""Conversations as tokens, chat templates, prompt packs and the user's prompt files."""
