"""Families of models for which the code of the paper (arXiv 2507.14805) has settings of their own.

A reference model belongs to a family by its name: the id on the hub, the base name of a folder or file, or
the name of a provider's model. Models of no family, and families without settings for a format, use those of
Qwen2.5-7B-Instruct, which the plan states.
"""

import re
from pathlib import PurePath

from undertow.study.references import API, Reference

QWEN_7B, GEMMA_4B, GPT_4 = "Qwen2.5-7B-Instruct", "Gemma 3 4B", "GPT-4.1 and GPT-4o"
_NAMES = (
    (QWEN_7B, re.compile(r"qwen2[.-]5-7b-instruct")),
    (GEMMA_4B, re.compile(r"gemma-3-4b")),
)
_API_NAMES = re.compile(r"gpt-4(\.1|o)\b")


def family_of(reference: Reference) -> str:
    """The family of a reference model; "" if it belongs to none."""
    if reference.is_api:
        return GPT_4 if _API_NAMES.match(reference.name.removeprefix(API)) else ""
    name = PurePath(reference.name).name.lower()
    return next((family for family, pattern in _NAMES if pattern.search(name)), "")
