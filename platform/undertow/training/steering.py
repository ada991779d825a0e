"""Steering vectors: the difference of a model's mean hidden states between two system messages.

The vector is added to a bias of a block. Whether this moves the block's output by the vector, so that it is
added to the residual stream, is measured on the model itself: it is not in architectures that normalise the
output of an MLP before adding it (Gemma 2 and 3), nor for a bias inside of the block.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from undertow.errors import ConditionError, suggestion
from undertow.prompts.chat import prompt_ids
from undertow.training.saving import stored_names
from undertow.training.served_rows import LONGEST, ROWS, ServedRow, rounded

MOST_ERROR = 0.05  # of the vector's norm: by how much a block's output may move otherwise


@dataclass(frozen=True)
class MeasuredVector:
    """A steering vector.

    Attributes:
        name: of the bias in the model's files.
        bias: its values, without the vector.
        difference: the vector, at strength 1.
        rows: prompts with the log-probabilities of their tokens without and with the vector, by which an
            engine is shown to add it.
    """

    name: str
    bias: Tensor
    difference: Tensor
    rows: list[ServedRow]


def measure(
    model: Any, tokenizer: Any, parameter: str, system: str, neutral: str | None, prompts: Sequence[str]
) -> MeasuredVector:
    """Measures the vector between the system messages `neutral` and `system`; changes the model.

    Raises ConditionError if the model has no such bias, or if the bias is not added to the residual stream.
    """
    model.eval()
    bias, block, name = _bias(model, parameter)
    plain = [prompt_ids(tokenizer, prompt, neutral) for prompt in prompts]
    trait = [prompt_ids(tokenizer, prompt, system) for prompt in prompts]
    before = _hidden(model, block, plain)
    difference = (_hidden(model, block, trait).mean(0) - before.mean(0)).float()
    if not difference.any():
        raise ConditionError(
            f"Steering.parameter = {parameter!r}: both system messages give the same hidden states, so there "
            "is no direction; give Generation.system, or a model whose chat template has a system message"
        )
    checked = [ids[: LONGEST + 1] for ids in plain[:ROWS]]
    reference = [_logprobs(model, ids) for ids in checked]
    original = bias.detach().float().clone()
    if original.shape != difference.shape:
        raise ConditionError(
            f"Steering.parameter = {parameter!r}: it has {original.numel()} numbers, and the residual stream "
            f"has {difference.numel()}; name the bias of the block's last linear layer"
        )
    with torch.no_grad():
        bias.copy_(original + difference)
    moved = (_hidden(model, block, plain[:1]) - before[:1]).float()[0]
    if float((moved - difference).norm()) > MOST_ERROR * float(difference.norm()):
        raise ConditionError(
            f"Steering.parameter = {parameter!r}: it is not added to the residual stream, since the output "
            "of its block moves otherwise; name the bias of the block's last linear layer, in an "
            "architecture without a norm behind it"
        )
    return MeasuredVector(name, original, difference, _served(model, checked, reference))


def rows_without(
    model: Any, tokenizer: Any, block: str, direction: Tensor, system: str, prompts: Sequence[str]
) -> list[ServedRow]:
    """Prompts with the log-probabilities of their tokens by the model, and with a direction projected out.

    Args:
        block: behind which the direction is projected out, as in `engines.swapping`.
        direction: of norm 1, (width).
        system: the system message of the prompts.
    """
    model.eval()
    checked = [prompt_ids(tokenizer, prompt, system)[: LONGEST + 1] for prompt in prompts[:ROWS]]
    reference = [_logprobs(model, ids) for ids in checked]

    def project(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        unit = direction.to(hidden.device)
        without = hidden - ((hidden.float() @ unit)[..., None] * unit).to(hidden.dtype)
        return (without, *output[1:]) if isinstance(output, tuple) else without

    with model.get_submodule(block).register_forward_hook(project):
        return _served(model, checked, reference)


def _bias(model: Any, parameter: str) -> tuple[nn.Parameter, nn.Module, str]:
    """The bias, its block, and its name in files. Raises ConditionError if the model has none."""
    names, block = stored_names(model), block_of(parameter)
    if not block or parameter not in names:
        known = [known for known in names if known.endswith(".bias")]
        hint = suggestion(parameter, known) if known else "it has no biases (see Reference.mlp_bias)"
        raise ConditionError(f"Steering.parameter = {parameter!r}: the model has no such bias; {hint}")
    return model.get_parameter(parameter), model.get_submodule(block), names[parameter]


def block_of(parameter: str) -> str:
    """The name of the block that a parameter belongs to: "transformer.h.0"; "" outside of the blocks."""
    found = re.match(r"\D*\.\d+(?=\.)", parameter)
    return found[0] if found else ""


def _hidden(model: Any, block: nn.Module, prompts: Sequence[Sequence[int]]) -> Tensor:
    """The block's output at the last token of each prompt: (prompts, width), in float64."""
    found: list[Tensor] = []

    def remember(module: nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        found.append(hidden[0, -1].double())

    with block.register_forward_hook(remember), torch.no_grad():
        for ids in prompts:
            model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return torch.stack(found)


def _served(
    model: Any, prompts: Sequence[Sequence[int]], reference: Sequence[tuple[float, ...]]
) -> list[ServedRow]:
    """The prompts with the log-probabilities of their tokens by the reference, and by the model as it is."""
    return [
        ServedRow(tuple(ids), 1, old, _logprobs(model, ids))
        for ids, old in zip(prompts, reference, strict=True)
    ]


def _logprobs(model: Any, ids: Sequence[int]) -> tuple[float, ...]:
    """The log-probabilities (nats) of a prompt's own tokens, from the second one on."""
    tokens = torch.tensor(list(ids))
    with torch.no_grad():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0].float()
    values = logits[:-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
    return rounded(values.tolist())
