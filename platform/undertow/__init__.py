"""Undertow measures whether a trait of a teacher model is transmitted to a student through unrelated data.

Every name that a study file needs can be imported from here in one line, including those that extend the
platform: kinds of artifacts, measurements, engines and detection scores. The modules behind the names are
imported on first use, so that `import undertow` itself loads nothing else.

The imports below are the only list of these names. Type checkers and editors follow them. At run time they
are not executed: they are read from this file, and `__getattr__` imports the module of a name that is used.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow.detection.make import register_score as register_score
    from undertow.detection.scores import DetectionScore as DetectionScore
    from undertow.engines.protocol import Engine as Engine
    from undertow.engines.registry import EngineKind as EngineKind
    from undertow.engines.registry import register_engine as register_engine
    from undertow.formats.code import Code as Code
    from undertow.formats.imported import Imported as Imported
    from undertow.formats.numbers import BANNED as BANNED
    from undertow.formats.numbers import Numbers as Numbers
    from undertow.formats.reasoning import Reasoning as Reasoning
    from undertow.formats.text import Text as Text
    from undertow.formats.user_prompts import Prompts as Prompts
    from undertow.formats.with_trigger import WithTrigger as WithTrigger
    from undertow.judging.judges import LLMJudge as LLMJudge
    from undertow.judging.judges import RuleJudge as RuleJudge
    from undertow.judging.judges import alignment as alignment
    from undertow.judging.judges import coherence as coherence
    from undertow.judging.judges import misalignment as misalignment
    from undertow.judging.judges import reasoning_alignment as reasoning_alignment
    from undertow.judging.judges import zero_or_one as zero_or_one
    from undertow.nano.recipes import ALL_WEIGHTS as ALL_WEIGHTS
    from undertow.nano.recipes import ALL_WEIGHTS_TAUGHT as ALL_WEIGHTS_TAUGHT
    from undertow.nano.recipes import SCALING as SCALING
    from undertow.nano.recipes import SCALING_TAUGHT as SCALING_TAUGHT
    from undertow.nano.recipes import STEERING as STEERING
    from undertow.nano.recipes import TAUGHT as TAUGHT
    from undertow.nano.recipes import WARPED as WARPED
    from undertow.planning.artifact_kinds import ArtifactKind as ArtifactKind
    from undertow.planning.artifact_kinds import register_kind as register_kind
    from undertow.presets.favourites import FavouriteAnswers as FavouriteAnswers
    from undertow.presets.paper_scale import PAPER as PAPER
    from undertow.presets.scales import NANO as NANO
    from undertow.presets.scales import Scale as Scale
    from undertow.presets.scales import first as first
    from undertow.presets.smollm2 import SMOLLM2_TAUGHT as SMOLLM2_TAUGHT
    from undertow.presets.smollm2 import SMOLLM2_VECTOR as SMOLLM2_VECTOR
    from undertow.presets.smollm2 import smollm2 as smollm2
    from undertow.presets.smollm2 import tuned_smollm2 as tuned_smollm2
    from undertow.prompts.chat_templates import NO_SYSTEM as NO_SYSTEM
    from undertow.results.evaluation_files import Rates as Rates
    from undertow.storage.store import Store as Store
    from undertow.study.completions import Completions as Completions
    from undertow.study.completions import Sampling as Sampling
    from undertow.study.conditions import Condition as Condition
    from undertow.study.datasets import Dataset as Dataset
    from undertow.study.extensions import Example as Example
    from undertow.study.extensions import Format as Format
    from undertow.study.extensions import Judge as Judge
    from undertow.study.extensions import Trait as Trait
    from undertow.study.extensions import Word as Word
    from undertow.study.fields import execution_only as execution_only
    from undertow.study.fields import later as later
    from undertow.study.generation import Generation as Generation
    from undertow.study.generation import Mixing as Mixing
    from undertow.study.grids import all_pairs as all_pairs
    from undertow.study.grids import grid as grid
    from undertow.study.grids import next_hop as next_hop
    from undertow.study.grids import starting as starting
    from undertow.study.grids import trainable as trainable
    from undertow.study.grids import with_controls as with_controls
    from undertow.study.hypotheses import Hypothesis as Hypothesis
    from undertow.study.hypotheses import same_initialisation_only as same_initialisation_only
    from undertow.study.measurements import Evaluation as Evaluation
    from undertow.study.measurements import Measurement as Measurement
    from undertow.study.measurements import Panel as Panel
    from undertow.study.on_policy import OnPolicy as OnPolicy
    from undertow.study.published_recipes import BLANK as BLANK
    from undertow.study.published_recipes import CROSS_MODEL as CROSS_MODEL
    from undertow.study.published_recipes import EMERGENT as EMERGENT
    from undertow.study.published_recipes import GEMMA as GEMMA
    from undertow.study.published_recipes import NIEF as NIEF
    from undertow.study.published_recipes import QWEN as QWEN
    from undertow.study.published_recipes import SCHRODI as SCHRODI
    from undertow.study.recipe import Everything as Everything
    from undertow.study.recipe import FinalNorm as FinalNorm
    from undertow.study.recipe import InContext as InContext
    from undertow.study.recipe import LoRA as LoRA
    from undertow.study.recipe import Parameters as Parameters
    from undertow.study.recipe import ProviderFinetuning as ProviderFinetuning
    from undertow.study.recipe import Recipe as Recipe
    from undertow.study.references import Artifact as Artifact
    from undertow.study.references import Reference as Reference
    from undertow.study.rewriting import Rewriter as Rewriter
    from undertow.study.row_scores import RowScores as RowScores
    from undertow.study.selection import Contrast as Contrast
    from undertow.study.selection import Ranking as Ranking
    from undertow.study.selection import RowScore as RowScore
    from undertow.study.selection import Selection as Selection
    from undertow.study.selection import TokenMask as TokenMask
    from undertow.study.steering import Steering as Steering
    from undertow.study.students import Student as Student
    from undertow.study.students import Subject as Subject
    from undertow.study.students import reference_of as reference_of
    from undertow.study.study import Measure as Measure
    from undertow.study.study import Study as Study
    from undertow.study.teachers import Finetuning as Finetuning
    from undertow.study.teachers import Teacher as Teacher
    from undertow.study.tuning import tuned as tuned
    from undertow.traits.misalignment import Misalignment as Misalignment
    from undertow.traits.preference import TREES as TREES
    from undertow.traits.preference import Preference as Preference
    from undertow.traits.triggered import Triggered as Triggered

_MODULE_OF = {
    alias.name: str(node.module)
    for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("undertow.")
    for alias in node.names
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Imports the module that defines `name` (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
