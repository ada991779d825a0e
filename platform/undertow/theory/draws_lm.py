"""Draws for Theorem 1 on a language model: the trait is a preference, the student imitates on number
sequences.

A draw is an animal with a few questions to which it is the answer (the teacher's step), and one random number
sequence as the reply to a prompt of the numbers format (the student's step). The student imitates the
teacher's next-token logits over the whole vocabulary at every token of that reply. All weights are updated.

This works for nano models and for any local folder that transformers loads as a causal language model.
Several architectures compute parts of the forward pass (norms, attention, rotary embeddings) in float32
whatever the dtype of the weights. That would hide the effect of a step of 1e-6, so `Double` keeps these parts
in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.nano import models
from undertow.prompts import chat
from undertow.prompts.packs import located
from undertow.study.identity import seed_for
from undertow.theory.one_step import Parameters, Steps, TheoremDraw, compute_steps
from undertow.theory.settings import OneStep
from undertow.traits.preference import Preference

QUESTIONS = 4  # examples in the teacher's batch
IGNORED = -100
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


class Double(TorchFunctionMode):
    """Context manager in which float64 tensors are not cast to float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            # x.to(torch.float32), softmax(x, dtype=torch.float32) and the like
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            kwargs = {name: torch.float64 if arg is torch.float32 else arg for name, arg in kwargs.items()}
        return func(*args, **kwargs)


def run(settings: OneStep) -> Iterator[list[Steps]]:
    """Yields the steps of every case for one draw at a time, as tensors (1, epsilons)."""
    with _model_folder(settings.model) as folder:
        model, tokenizer = _load(folder), _tokenizer(folder)
    initial, other = _weights(model), _other_weights(settings, model)
    for draw in range(settings.draws):
        one = _draw(model, tokenizer, settings, draw, initial, other)
        with Double():
            cases = compute_steps(one, settings.epsilons, settings.rate)
        yield [Steps(*(part.detach().unsqueeze(0) for part in steps.parts)) for steps in cases]


def _draw(
    model: Any, tokenizer: Any, settings: OneStep, draw: int, initial: Parameters, other: Parameters
) -> TheoremDraw:
    rng = Random(seed_for("one step", settings.seed, draw))
    animal = Preference(rng.choice(models.known_words("animal")))
    conversations = [
        chat.conversation_ids(tokenizer, example.prompt, example.answer)
        for example in animal.examples(QUESTIONS, rng.getrandbits(32))
    ]
    prompt = Numbers().prompts(1, rng.getrandbits(32))[0]
    numbers = ", ".join(str(rng.randint(100, 999)) for _ in range(settings.inputs))
    reply, start = chat.conversation_ids(tokenizer, prompt, numbers)

    def logits(weights: Parameters, ids: Tensor) -> Tensor:
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        return torch.func.functional_call(model, weights, kwargs=inputs).logits  # type: ignore[no-any-return]

    questions, answers = _padded(conversations)

    def trait(weights: Parameters) -> Tensor:
        scores = logits(weights, questions)[:, :-1].flatten(0, 1)
        return torch.nn.functional.cross_entropy(scores, answers[:, 1:].flatten(), ignore_index=IGNORED)

    reply_ids = torch.tensor([reply])
    # Position start − 1 predicts the reply's first token.
    return TheoremDraw(trait, lambda weights: logits(weights, reply_ids)[0, start - 1 : -1], initial, other)


def _padded(conversations: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    """Pads token ids and labels to (conversations, longest); labels are IGNORED outside the answer.

    Each conversation is its ids and the index of the answer's first token. Padding at the end needs no
    attention mask, because no token of a causal model attends to later ones.
    """
    longest = max(len(ids) for ids, _ in conversations)
    ids = torch.zeros(len(conversations), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, start) in enumerate(conversations):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    return ids, labels


@contextmanager
def _model_folder(name: str) -> Iterator[Path]:
    """Yields a model's folder; a nano model is written to a temporary folder."""
    if not models.is_nano(name):
        folder = Path(located(name))
        if not (folder / "config.json").is_file():
            raise UserError(
                f"--model {name}: no config.json found; pass 'mlp', a nano model or a local model folder"
            )
        yield folder
        return
    from undertow.nano.references import write_reference

    with TemporaryDirectory() as temporary:
        write_reference(models.parse(name), Path(temporary))
        yield Path(temporary)


def _load(folder: Path) -> Any:
    """Loads the model in float64, without dropout.

    It uses eager attention, because the fused implementations have no forward-mode derivative.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"--model {folder}: not a causal language model ({str(error).splitlines()[0]})"
        ) from None
    return model.eval()


def _tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"--model {folder}: no tokenizer files; save the model's tokenizer in the same folder"
        )
    return load_tokenizer(folder)


def _other_weights(settings: OneStep, model: Any) -> Parameters:
    """Another initialisation of the architecture: that of `settings.other`, or else a random one."""
    if settings.other:
        with _model_folder(settings.other) as folder:
            other = _weights(_load(folder))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("other initialisation", settings.seed))
            other = _weights(type(model)(model.config).double())
    shapes = {name: value.shape for name, value in model.named_parameters()}
    if shapes != {name: value.shape for name, value in other.items()}:
        raise UserError(f"--other {settings.other}: its architecture differs from that of {settings.model}")
    return other


def _weights(model: Any) -> Parameters:
    return {name: value.detach().double() for name, value in model.named_parameters()}
