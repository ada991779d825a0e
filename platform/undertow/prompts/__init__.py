"""Tokenized conversations, chat templates, prompt packs and users' prompt files."""
