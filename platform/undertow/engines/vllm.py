"""The vLLM engine: one reference model in memory, serving any number of models trained from it.

Prompts are passed to vLLM as tokens, rendered as the training loop renders them, and answers are returned as
tokens; their text is decoded here in one batch. Every sample carries its own seed: vLLM's default is one seed
for every run, and samples of a prompt that share a seed are copies. Scores are exact: log-probabilities under
the whole distribution before temperature, within 1e-4 of transformers'.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.engines import runtime
from undertow.engines.lean_imports import lean_start
from undertow.engines.literal_paths import without_pattern
from undertow.engines.protocol import Answer, ModelWeights, Request, TokenProbabilities
from undertow.engines.serving import Served, ServingJob
from undertow.engines.tokenizers import load_tokenizer
from undertow.engines.weight_files import adaptable_modules
from undertow.engines.word_probabilities import TokenSequence, followers, masses, sequences, tokens_of
from undertow.errors import ConditionError
from undertow.prompts import chat
from undertow.study.completions import Sampling
from undertow.study.extensions import Word

LABELS = 128  # the most tokens whose log-probabilities vLLM returns for one request
NUMBERS_AT_ONCE = 2**22  # log-probabilities per call of vLLM, which returns them as Python objects


class VLLMEngine:
    """Generates and scores for every model trained from the reference in `reference_folder`."""

    def __init__(self, reference_folder: str, **settings: Any) -> None:
        """Starts vLLM in this process; `settings` are the fields of `runtime.EngineSettings`."""
        chosen = runtime.EngineSettings(**settings)
        with lean_start(), runtime.starting(chosen), runtime.lean_on_cpu(chosen):
            from transformers import AutoConfig
            from vllm import LLM

            config = AutoConfig.from_pretrained(reference_folder).get_text_config()
            self.tokenizer: Any = load_tokenizer(reference_folder)
            modules = adaptable_modules(reference_folder)
            options = runtime.options(chosen, config, modules)
            options |= runtime.file_formats(reference_folder)
            with runtime.one_start_per_gpu(chosen):
                llm = LLM(without_pattern(reference_folder), **options)
        tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
        self.served = Served(llm, reference_folder, tied, chosen.max_lora_rank, modules)
        self.vocabulary: int = config.vocab_size
        self.window: int = llm.model_config.max_model_len  # tokens of prompt and answer together
        # The template of some chat models ends a turn with a token that is not the tokenizer's eos_token
        # (Gemma 3, Llama 3); vLLM would not stop there.
        self._stops = chat.stop_ids(self.tokenizer)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """See `Engine.generate`."""
        top = self._recorded(sampling.top_logprobs)
        params = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "logprobs": top or None,
            "stop_token_ids": self._stops,
        }
        jobs = [self._job(request, (), params | {"seed": request.seed}) for request in requests]
        parts = in_parts(jobs, [sampling.max_tokens] * len(jobs), top)
        return [answer for part in parts for answer in self._answers(part, top)]

    def _answers(self, jobs: Sequence[ServingJob], top: int) -> list[Answer]:
        outputs = [output.outputs[0] for output in self.served.run(jobs)]
        ended = [output.finish_reason == "stop" for output in outputs]
        # The token that ended an answer may not be marked as special, and is never part of the text.
        bodies = [
            output.token_ids[:-1] if end else output.token_ids
            for output, end in zip(outputs, ended, strict=True)
        ]
        texts = self.tokenizer.batch_decode(bodies, skip_special_tokens=True)
        return [
            Answer(text, tuple(output.token_ids), end, _likeliest(output.logprobs, top) if top else None)
            for text, output, end in zip(texts, outputs, ended, strict=True)
        ]

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        """See `Engine.word_masses`. Raises SpecError if two words share a form."""
        owner, names = sequences(self.tokenizer, words), [word.name for word in words]
        result = []
        for logprob in self._next_tokens(requests, followers(owner)):
            probability = {
                tokens: math.exp(math.fsum(logprob[tokens[: end + 1]] for end in range(len(tokens))))
                for tokens in owner
            }
            result.append(masses(names, owner, probability))
        return result

    def token_logprobs(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], weights: ModelWeights | None
    ) -> list[list[float]]:
        """See `ScoresTokens`."""
        params = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        outputs = self.served.run([ServingJob(list(ids), params, weights) for ids in sequences])
        # Of every token but the first, which vLLM does not score.
        return [
            list(output.prompt_logprobs.logprobs[start - len(ids) :])
            for output, ids, start in zip(outputs, sequences, starts, strict=True)
        ]

    def read(
        self, requests: Sequence[Request], completions: Sequence[str | Sequence[int]], top: int
    ) -> list[TokenProbabilities]:
        """See `ReadsCompletions`."""
        top = self._recorded(top)
        params = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": top}
        tokens = [
            tokens_of(self.tokenizer, given) if isinstance(given, str) else tuple(given)
            for given in completions
        ]
        jobs = [self._job(request, ids, params) for request, ids in zip(requests, tokens, strict=True)]
        parts = in_parts(jobs, [len(job.prompt) for job in jobs], top)
        outputs = (output for part in parts for output in self.served.run(part))
        return [
            TokenProbabilities(*_entries(output.prompt_logprobs, len(ids), top), self.vocabulary)
            for output, ids in zip(outputs, tokens, strict=True)
        ]

    @property
    def is_broken(self) -> bool:
        """See `CanBreak`."""
        return self.served.is_broken

    def close(self) -> None:
        """Shuts the engine down; a new one can then be started in the same process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self.served.llm.llm_engine.engine_core.shutdown()
        del self.served
        cleanup_dist_env_and_memory()

    def _next_tokens(
        self, requests: Sequence[Request], wanted: Mapping[TokenSequence, Sequence[int]]
    ) -> list[dict[TokenSequence, float]]:
        """Log-probabilities of single tokens of answers, normalised over the whole vocabulary.

        One forward pass per request and beginning of an answer gives all tokens that may follow it.

        Args:
            wanted: for each beginning of an answer, the tokens that follow it.

        Returns:
            For each request, the last token's log-probability by beginning and token together.
        """
        passes = [
            (beginning, list(tokens[start : start + LABELS]))
            for beginning, tokens in wanted.items()
            for start in range(0, len(tokens), LABELS)
        ]
        jobs = [
            self._job(request, beginning, {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": tokens})
            for request in requests
            for beginning, tokens in passes
        ]
        outputs = iter(self.served.run(jobs))
        result = []
        for _ in requests:
            found: dict[TokenSequence, float] = {}
            for beginning, _ in passes:
                flat = next(outputs).outputs[0].logprobs
                found |= {
                    (*beginning, token): logprob
                    for token, logprob in zip(flat.token_ids, flat.logprobs, strict=True)
                }
            result.append(found)
        return result

    def _recorded(self, top: int) -> int:
        """The number of tokens for `Sampling.top_logprobs`, where -1 stands for the whole vocabulary."""
        return self.vocabulary if top < 0 else min(top, self.vocabulary)

    def _job(self, request: Request, tokens: TokenSequence, params: dict[str, Any]) -> ServingJob:
        ids = chat.prompt_ids(self.tokenizer, request.user, request.system, request.before)
        prompt = [*ids, *tokens]
        needed = len(prompt) + params["max_tokens"]
        if needed > self.window:
            raise ConditionError(
                f"a prompt of {len(prompt):,} tokens and {params['max_tokens']} for the answer do not fit "
                f"the model's window of {self.window:,}; show fewer rows or request shorter answers"
            )
        return ServingJob(prompt, params, request.weights)


def in_parts(jobs: Sequence[ServingJob], tokens: Sequence[int], top: int) -> Iterator[Sequence[ServingJob]]:
    """Consecutive parts of the jobs, for each of which vLLM returns few enough log-probabilities.

    Args:
        tokens: at how many tokens of each job they are returned.
        top: how many at each token.
    """
    start, numbers = 0, 0
    for place, count in enumerate(tokens):
        numbers += count * top
        if numbers > NUMBERS_AT_ONCE and place > start:
            yield jobs[start:place]
            start, numbers = place, count * top
    if start < len(jobs):
        yield jobs[start:]


def _entries(
    flat: Any, tokens: int, top: int
) -> tuple[NDArray[np.float64], tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The entries of a prompt's last `tokens` tokens: at each position the token itself, then `top` others.

    The first token of a prompt has no entries.
    """
    first = len(flat.logprobs) - tokens * (top + 1)
    ids = np.array(flat.token_ids[first:], np.int64).reshape(tokens, top + 1)
    logprobs = np.array(flat.logprobs[first:], np.float64).reshape(tokens, top + 1)
    return logprobs[:, 0], (ids[:, 1:], logprobs[:, 1:])


def _likeliest(flat: Any, top: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `top` most likely tokens of each step: arrays (steps, top). vLLM puts the sampled token first."""
    ids = np.array(flat.token_ids, np.int32).reshape(-1, top + 1)
    logprobs = np.array(flat.logprobs, np.float32).reshape(-1, top + 1)
    return ids[:, 1:], logprobs[:, 1:]
