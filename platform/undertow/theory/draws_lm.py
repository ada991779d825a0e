"""Draws of Theorem 1 on a language model: a preference for the trait, number sequences to imitate.

A draw is an animal with a few questions that it answers (the teacher's step), and one random number sequence
in reply to a prompt of the numbers format (the student's). The student imitates the teacher's next-token
logits over the whole vocabulary at every token of that reply. All weights take the step.

Works on a nano model and on any local folder that transformers loads as a causal model. Several architectures
round parts of a forward pass to float32 whatever their weights are (norms, attention, rotary angles), which
would hide the effect of a step of 1e-6; `Double` keeps those parts in float64.
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

from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.nano import models
from undertow.prompts import chat
from undertow.study.identity import seed_for
from undertow.theory.one_step import Parameters, Scene, Steps, every_step
from undertow.theory.settings import OneStep
from undertow.traits.preference import Preference

QUESTIONS = 4  # examples in the teacher's batch
IGNORED = -100
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


class Double(TorchFunctionMode):
    """Within it, casts of float64 tensors to float32 are not done."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            kwargs = {name: torch.float64 if arg is torch.float32 else arg for name, arg in kwargs.items()}
        return func(*args, **kwargs)


def run(settings: OneStep) -> Iterator[list[Steps]]:
    """The steps of every case, a draw at a time: tensors (1, epsilons)."""
    with _folder(settings.model) as folder:
        model, tokenizer = _load(folder), _tokenizer(folder)
    initial, other = _weights(model), _other(settings, model)
    for draw in range(settings.draws):
        scene = _scene(model, tokenizer, settings, draw, initial, other)
        with Double():
            found = every_step(scene, settings.epsilons, settings.rate)
        yield [Steps(*(part.detach().unsqueeze(0) for part in steps.parts)) for steps in found]


def _scene(
    model: Any, tokenizer: Any, settings: OneStep, draw: int, initial: Parameters, other: Parameters
) -> Scene:
    rng = Random(seed_for("one step", settings.seed, draw))
    animal = Preference(rng.choice(models.known_words("animal")))
    asked = [
        chat.conversation_ids(tokenizer, example.prompt, example.answer)
        for example in animal.examples(QUESTIONS, rng.getrandbits(32))
    ]
    prompt = Numbers().prompts(1, rng.getrandbits(32))[0]
    numbers = ", ".join(str(rng.randint(100, 999)) for _ in range(settings.inputs))
    reply, start = chat.conversation_ids(tokenizer, prompt, numbers)

    def logits(weights: Parameters, ids: Tensor) -> Tensor:
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        return torch.func.functional_call(model, weights, kwargs=inputs).logits  # type: ignore[no-any-return]

    questions, answers = _padded(asked)

    def trait(weights: Parameters) -> Tensor:
        scores = logits(weights, questions)[:, :-1].flatten(0, 1)
        return torch.nn.functional.cross_entropy(scores, answers[:, 1:].flatten(), ignore_index=IGNORED)

    shown = torch.tensor([reply])
    return Scene(trait, lambda weights: logits(weights, shown)[0, start - 1 : -1], initial, other)


def _padded(turns: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    """Tokens (turns, longest) and the same as labels, with IGNORED before the answer and after the end.

    The filling after the end needs no mask: no token of a causal model sees what follows it.
    """
    longest = max(len(ids) for ids, _ in turns)
    ids = torch.zeros(len(turns), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, start) in enumerate(turns):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    return ids, labels


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A model's folder; a nano model's is made for the block."""
    if not models.is_nano(name):
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(
                f"--model {name}: no config.json there; name 'mlp', a nano model or a local model folder"
            )
        yield folder
        return
    from undertow.nano.training import write_reference

    with TemporaryDirectory() as made:
        write_reference(models.parse(name), Path(made))
        yield Path(made)


def _load(folder: Path) -> Any:
    """The model in float64, without dropout. Eager attention: the fused ones have no forward derivative."""
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
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"--model {folder}: no tokenizer in it; save the model's tokenizer into the same folder"
        )
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _other(settings: OneStep, model: Any) -> Parameters:
    """Another initialisation of the architecture: the named model's, else one drawn anew."""
    if settings.other:
        with _folder(settings.other) as folder:
            found = _weights(_load(folder))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("other initialisation", settings.seed))
            found = _weights(type(model)(model.config).double())
    ours = {name: value.shape for name, value in model.named_parameters()}
    if ours != {name: value.shape for name, value in found.items()}:
        raise UserError(
            f"--other {settings.other}: not of the architecture of {settings.model}; name one that is"
        )
    return found


def _weights(model: Any) -> Parameters:
    return {name: value.detach().double() for name, value in model.named_parameters()}
