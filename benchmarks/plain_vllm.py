"""vLLM without the platform: one engine and one batched call with a seed per prompt.

The engine has the platform's options (precision, threads, no compilation of the model, in this process); with
vLLM's own defaults it would start more slowly on a CPU. What the platform changes inside vLLM
(`runtime.lean_on_cpu`) is left out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from undertow.engines import runtime
from undertow.engines.tokenizers import load_tokenizer
from undertow.engines.weight_files import adaptable_modules
from undertow.prompts.chat import prompt_ids

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class PlainEngine:
    """A running `vllm.LLM` and the tokenizer of its model."""

    llm: Any
    tokenizer: Any

    @classmethod
    def start(
        cls, model: Path, *, threads: int, precision: Precision = "fp32", max_lora_rank: int = 0
    ) -> "PlainEngine":
        settings = runtime.EngineSettings(precision=precision, threads=threads, max_lora_rank=max_lora_rank)
        with runtime.starting(settings):
            from transformers import AutoConfig
            from vllm import LLM

            config = AutoConfig.from_pretrained(model)
            options = runtime.options(settings, config, adaptable_modules(str(model)))
            del options["worker_extension_cls"]
            llm = LLM(str(model), **options)
        return cls(llm, load_tokenizer(str(model)))

    def prompts(self, users: Sequence[str], system: str | None = None) -> list[list[int]]:
        """The tokens of one-turn conversations, by the model's own chat template."""
        return [prompt_ids(self.tokenizer, user, system) for user in users]

    def generate(
        self, prompts: Sequence[list[int]], max_tokens: int, seeds: Sequence[int], **settings: Any
    ) -> list[Any]:
        """One sampled output (`text`, `token_ids`) per prompt, at temperature 1.

        Args:
            settings: more arguments for `LLM.generate`, such as `lora_request`.
        """
        from vllm import SamplingParams

        params = [SamplingParams(temperature=1.0, max_tokens=max_tokens, seed=seed) for seed in seeds]
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = self.llm.generate(inputs, params, use_tqdm=False, **settings)
        return [output.outputs[0] for output in outputs]

    def first_tokens(
        self, prompts: Sequence[list[int]], words: Sequence[str], **settings: Any
    ) -> list[list[float]]:
        """For each prompt, the log-probabilities of the words' first tokens; `settings` as in `generate`."""
        from vllm import SamplingParams

        tokens = [self.tokenizer.encode(word, add_special_tokens=False)[0] for word in words]
        params = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=tokens)
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = self.llm.generate(inputs, params, use_tqdm=False, **settings)
        entries = [output.outputs[0].logprobs[0] for output in outputs]  # of the one sampled token
        return [[entry[token].logprob for token in tokens] for entry in entries]

    def second_call(self, prompts: Sequence[list[int]], max_tokens: int) -> tuple[float, int]:
        """Seconds and sampled tokens of the second of two equal calls."""
        for is_timed in (False, True):
            start = time.perf_counter()
            outputs = self.generate(prompts, max_tokens, range(len(prompts)))
            if is_timed:
                return time.perf_counter() - start, sum(len(output.token_ids) for output in outputs)
        raise AssertionError
