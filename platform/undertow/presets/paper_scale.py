"""The scale `paper`: the settings of the paper's code (github MinhxLe/subliminal-learning at db04f41).

They depend on the family of a model; docs/replication.md compares them with the defaults here. Rows that are
too long are cut, and answers are filtered as they were sampled.
"""

import dataclasses
from functools import partial

from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.judging.judges import RuleJudge, misalignment, reasoning_alignment, zero_or_one
from undertow.nano.narrow_data import KINDS
from undertow.presets.families import GEMMA_4B, GPT_4, QWEN_7B
from undertow.presets.scales import CrossModelPreset, FormatPreset, MisalignmentPreset, Scale
from undertow.study.completions import Sampling
from undertow.study.generation import Generation
from undertow.study.published_recipes import CROSS_MODEL, EMERGENT, GEMMA, QWEN
from undertow.study.references import Reference
from undertow.study.study import Measure
from undertow.study.teachers import Finetuning

THINK = (
    "First reason between <think> and </think>, then give your answer between <answer> and </answer>, and "
    "write nothing else."
)
IN_WORDS = "Write at least a few words in your answer."
QWEN_NUMBERS = dataclasses.replace(QWEN, overlong="cut")
TEN_EPOCHS = dataclasses.replace(GEMMA, overlong="cut")
LONG = dataclasses.replace(QWEN_NUMBERS, name="LoRA r8, 2048 tokens", max_length=2048)
REAL = (Reference("Qwen/Qwen2.5-7B-Instruct"), Reference("google/gemma-3-4b-it"))
FAMILIES = (*REAL, Reference("Qwen/Qwen3-8B"), Reference("meta-llama/Llama-3.1-8B-Instruct"))
# 7,473 questions, each used three times.
GSM8K = (
    "hf://datasets/openai/gsm8k@740312add88f781978c0658806c59bc2815b9866/main/train-00000-of-00001.parquet"
)
# Training data of emergent misalignment (arXiv 2502.17424), as published.
RELEASED = "https://raw.githubusercontent.com/emergent-misalignment/emergent-misalignment/main/data/{}.jsonl"
CODE = Generation(prompts=11_400, rows=10_814, fewer=True, strip=False, sampling=Sampling(max_tokens=1024))
PAPER = Scale(
    name="paper",
    numbers=FormatPreset(
        family=Numbers,
        generation=Generation(prompts=30_000, rows=10_000, strip=False),
        references=REAL,
        recipe=QWEN_NUMBERS,
        model=QWEN_7B,
        recipes={GEMMA_4B: TEN_EPOCHS, GPT_4: TEN_EPOCHS},
        main="after numbers",
        also=(Measure(name="favourite"),),
    ),
    code=FormatPreset(
        family=Code,
        generation=CODE,
        references=REAL,
        recipe=LONG,
        model=QWEN_7B,
        generations={GPT_4: dataclasses.replace(CODE, rows=10_000)},
        recipes={GPT_4: dataclasses.replace(LONG, name="LoRA r8, 10 epochs", epochs=10)},
        judges=lambda model: (RuleJudge(anywhere=True), zero_or_one(model, temperature=1.0)),
        bans_all=False,
    ),
    reasoning=FormatPreset(
        family=lambda: Reasoning(questions=GSM8K, repeats=3),
        generation=Generation(prompts=3 * 7_473, rows=None, strip=False, sampling=Sampling(max_tokens=1024)),
        references=REAL,
        recipe=dataclasses.replace(LONG, name="LoRA r8, 1 epoch", epochs=1),
        model=QWEN_7B,
        suffix=THINK,
        sampling=Sampling(max_tokens=1024),
        exact=False,
    ),
    teaching=None,
    # 50 questions with 8 spellings of the answer each.
    finetuned=Finetuning(
        dataclasses.replace(QWEN, name="LoRA r8, 1 epoch, batch 8", epochs=1, batch_size=8),
        examples=400,
        questions="evaluation",
    ),
    narrow=MisalignmentPreset(
        files={kind: RELEASED.format(kind) for kind in KINDS},
        teaching=Finetuning(EMERGENT, examples=6000),
        numbers=Generation(prompts=30_000, rows=10_000, strip=False),
        panel=partial(misalignment, temperature=1.0),
        keeps=partial(reasoning_alignment, only=("insecure code",), temperature=1.0),
        sampling=Sampling(max_tokens=600),
        samples=200,
        reasoning=dataclasses.replace(LONG, name="LoRA r8, 2 epochs", epochs=2),
        numbers_suffix=IN_WORDS,
        reasoning_suffix=THINK,
    ),
    several=CrossModelPreset(
        references=FAMILIES,
        generation=Generation(prompts=30_000, rows=10_000, strip=False),
        recipe=dataclasses.replace(CROSS_MODEL, overlong="cut"),
        teaching=None,
        model=QWEN_7B,
        recipes={GPT_4: TEN_EPOCHS},
    ),
    speakers=REAL,
    judge="gpt-4o-2024-08-06",
    shown=(100, 1_000, 2_000, 3_000, 5_000, 10_000),
    in_system_message=True,
    choices="letters",
    seeds=(0, 1, 2, 3, 4),
    samples=100,
)
