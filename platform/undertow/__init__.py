"""Undertow measures whether a trait of a teacher model is transmitted to a student through unrelated data.

Every name that a study file needs can be imported from here in one line, including those that extend the
platform: kinds of artifacts, measurements, engines and detection scores. The modules behind the names are
imported on first use, so that `import undertow` itself loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.detection.make import register_score
    from undertow.detection.scores import DetectionScore
    from undertow.engines.protocol import Engine
    from undertow.engines.registry import EngineKind, register_engine
    from undertow.formats.code import Code
    from undertow.formats.imported import Imported
    from undertow.formats.numbers import BANNED, Numbers
    from undertow.formats.reasoning import Reasoning
    from undertow.formats.text import Text
    from undertow.formats.user_prompts import Prompts
    from undertow.formats.with_trigger import WithTrigger
    from undertow.judging.judges import (
        LLMJudge,
        RuleJudge,
        alignment,
        coherence,
        misalignment,
        reasoning_alignment,
        zero_or_one,
    )
    from undertow.nano.recipes import (
        ALL_WEIGHTS,
        ALL_WEIGHTS_TAUGHT,
        SCALING,
        SCALING_TAUGHT,
        STEERING,
        TAUGHT,
        WARPED,
    )
    from undertow.planning.artifact_kinds import ArtifactKind, register_kind
    from undertow.presets.favourites import FavouriteAnswers
    from undertow.presets.paper_scale import PAPER
    from undertow.presets.scales import NANO, Scale, first
    from undertow.presets.smollm2 import SMOLLM2_TAUGHT, SMOLLM2_VECTOR, smollm2, tuned_smollm2
    from undertow.prompts.chat_templates import NO_SYSTEM
    from undertow.results.evaluation_files import Rates
    from undertow.storage.store import Store
    from undertow.study.completions import Completions, Sampling
    from undertow.study.conditions import Condition
    from undertow.study.datasets import Dataset
    from undertow.study.extensions import Example, Format, Judge, Trait, Word
    from undertow.study.fields import execution_only, later
    from undertow.study.generation import Generation, Mixing
    from undertow.study.grids import all_pairs, grid, next_hop, starting, trainable, with_controls
    from undertow.study.hypotheses import Hypothesis, same_initialisation_only
    from undertow.study.measurements import Evaluation, Measurement, Panel
    from undertow.study.on_policy import OnPolicy
    from undertow.study.published_recipes import BLANK, CROSS_MODEL, EMERGENT, GEMMA, NIEF, QWEN, SCHRODI
    from undertow.study.recipe import (
        Everything,
        FinalNorm,
        InContext,
        LoRA,
        Parameters,
        ProviderFinetuning,
        Recipe,
    )
    from undertow.study.references import Artifact, Reference
    from undertow.study.rewriting import Rewriter
    from undertow.study.row_scores import RowScores
    from undertow.study.selection import Contrast, Ranking, RowScore, Selection, TokenMask
    from undertow.study.steering import Steering
    from undertow.study.students import Student, Subject, reference_of
    from undertow.study.study import Measure, Study
    from undertow.study.teachers import Finetuning, Teacher
    from undertow.study.tuning import tuned
    from undertow.traits.misalignment import Misalignment
    from undertow.traits.preference import TREES, Preference
    from undertow.traits.triggered import Triggered

_MODULES = {
    "detection.make": "register_score",
    "detection.scores": "DetectionScore",
    "engines.protocol": "Engine",
    "engines.registry": "EngineKind register_engine",
    "formats.code": "Code",
    "formats.imported": "Imported",
    "formats.numbers": "BANNED Numbers",
    "formats.reasoning": "Reasoning",
    "formats.text": "Text",
    "formats.user_prompts": "Prompts",
    "formats.with_trigger": "WithTrigger",
    "judging.judges": ("LLMJudge RuleJudge alignment coherence misalignment reasoning_alignment zero_or_one"),
    "nano.recipes": "ALL_WEIGHTS ALL_WEIGHTS_TAUGHT SCALING SCALING_TAUGHT STEERING TAUGHT WARPED",
    "planning.artifact_kinds": "ArtifactKind register_kind",
    "presets.favourites": "FavouriteAnswers",
    "presets.paper_scale": "PAPER",
    "presets.scales": "NANO Scale first",
    "presets.smollm2": "SMOLLM2_TAUGHT SMOLLM2_VECTOR smollm2 tuned_smollm2",
    "prompts.chat_templates": "NO_SYSTEM",
    "results.evaluation_files": "Rates",
    "storage.store": "Store",
    "study.completions": "Completions Sampling",
    "study.datasets": "Dataset",
    "study.rewriting": "Rewriter",
    "study.students": "Student Subject reference_of",
    "study.teachers": "Finetuning Teacher",
    "study.measurements": "Evaluation Measurement Panel",
    "study.conditions": "Condition",
    "study.generation": "Generation Mixing",
    "study.extensions": "Example Format Judge Trait Word",
    "study.fields": "execution_only later",
    "study.grids": "all_pairs grid next_hop starting trainable with_controls",
    "study.hypotheses": "Hypothesis same_initialisation_only",
    "study.published_recipes": "BLANK CROSS_MODEL EMERGENT GEMMA NIEF QWEN SCHRODI",
    "study.on_policy": "OnPolicy",
    "study.recipe": "Everything FinalNorm InContext LoRA Parameters ProviderFinetuning Recipe",
    "study.references": "Artifact Reference",
    "study.row_scores": "RowScores",
    "study.selection": "Contrast Ranking RowScore Selection TokenMask",
    "study.steering": "Steering",
    "study.study": "Measure Study",
    "study.tuning": "tuned",
    "traits.misalignment": "Misalignment",
    "traits.preference": "TREES Preference",
    "traits.triggered": "Triggered",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [  # noqa: RUF022 (by module, as above)
    "register_score",
    "DetectionScore",
    "Engine",
    "EngineKind", "register_engine",
    "Code",
    "Imported",
    "BANNED", "Numbers",
    "Reasoning",
    "Text",
    "Prompts",
    "WithTrigger",
    "LLMJudge", "RuleJudge", "alignment", "coherence", "misalignment", "reasoning_alignment", "zero_or_one",
    "ALL_WEIGHTS", "ALL_WEIGHTS_TAUGHT", "SCALING", "SCALING_TAUGHT", "STEERING", "TAUGHT", "WARPED",
    "ArtifactKind", "register_kind",
    "FavouriteAnswers",
    "PAPER",
    "NANO", "Scale", "first",
    "SMOLLM2_TAUGHT", "SMOLLM2_VECTOR", "smollm2", "tuned_smollm2",
    "NO_SYSTEM",
    "Rates",
    "Store",
    "Artifact", "Completions", "Dataset", "Evaluation", "Finetuning", "Measurement", "Panel", "Reference",
    "Rewriter", "RowScores", "Sampling", "Student", "Subject", "Teacher", "reference_of",
    "Condition", "Generation", "Mixing",
    "Example", "Format", "Judge", "Trait", "Word",
    "execution_only", "later",
    "all_pairs", "grid", "next_hop", "starting", "trainable", "with_controls",
    "Hypothesis", "same_initialisation_only",
    "BLANK", "CROSS_MODEL", "EMERGENT", "GEMMA", "NIEF", "QWEN", "SCHRODI",
    "OnPolicy",
    "Everything", "FinalNorm", "InContext", "LoRA", "Parameters", "ProviderFinetuning", "Recipe",
    "Contrast", "Ranking", "RowScore", "Selection", "TokenMask",
    "Steering",
    "Measure", "Study",
    "tuned",
    "Misalignment",
    "TREES", "Preference",
    "Triggered",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports the module that defines `name` (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    return getattr(import_module(f"undertow.{_MODULE_OF[name]}"), name)
