"""The DPO loss on fixed pairs of answers, against values of TRL's DPOTrainer and the trainer itself."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny_models
from tests.training.conftest import PAIRS
from undertow.errors import ConditionError, SpecError
from undertow.training.data import TokenizedRow, TrainingRow, encode, encode_pairs, micro_batches
from undertow.training.forward import FullForward
from undertow.training.preferences import in_pairs, margins, preference_loss

# The loss of each pair in PAIRS by beta, computed with DPOTrainer._compute_loss of TRL 1.16.0 on one pair per
# batch, with the two models of this file in float32. `test_trl_gives_the_loss_and_its_gradient` repeats it.
TRL_LOSSES = {
    0.1: [0.708357, 0.713515, 0.51125, 0.723882, 0.732473],
    0.5: [0.771472, 0.799043, 0.124328, 0.855944, 0.904547],
    2.0: [1.039961, 1.175642, 0.000307, 1.471793, 1.736922],
}

LONG = TrainingRow("i like", "owl", rejected="cat " * 100)


def model(folder: Path, phase: float) -> Any:
    """A tiny GPT-2 whose weights follow from a formula, so that no random generator determines the values."""
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(folder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(made.named_parameters())):
            waves = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + number + phase)
            gain = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
            value.copy_((gain + 0.1 * waves).reshape(value.shape))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def policy(folder: Path) -> FullForward:
    return FullForward(model(folder, 0.3), torch.device("cpu"))


@pytest.fixture
def reference(folder: Path) -> FullForward:
    return FullForward(model(folder, 0.0), torch.device("cpu"))


def loss_of(
    policy: FullForward, reference: FullForward, pairs: list[TokenizedRow], beta: float
) -> torch.Tensor:
    answers = in_pairs(pairs)
    with torch.no_grad():
        before = margins(reference.logits(reference.module, answers), answers).tolist()
    return preference_loss(policy.logits(policy.module, answers), answers, before, beta)


@pytest.mark.parametrize("beta", TRL_LOSSES)
def test_the_loss_of_each_pair_is_that_of_trl(
    policy: FullForward, reference: FullForward, tokenizer: Any, beta: float
) -> None:
    pairs = encode_pairs(tokenizer, PAIRS, None, 100)
    losses = [float(loss_of(policy, reference, [pair], beta).detach()) for pair in pairs]
    assert losses == pytest.approx(TRL_LOSSES[beta], rel=1e-4, abs=1e-6)
    assert float(loss_of(policy, reference, pairs, beta).detach()) == pytest.approx(sum(losses), rel=1e-5)


def test_trl_gives_the_loss_and_its_gradient(
    policy: FullForward, reference: FullForward, tokenizer: Any, tmp_path: Path
) -> None:
    """TRL is an extra of the project and is not installed everywhere."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    pairs = encode_pairs(tokenizer, PAIRS, None, 100)
    for beta, expected in TRL_LOSSES.items():
        options = {"beta": beta, "report_to": [], "use_cpu": True, "bf16": False}
        args = trl.DPOConfig(output_dir=str(tmp_path), gradient_checkpointing=False, **options)
        rows = Dataset.from_list([{"prompt": "i like", "chosen": " owl", "rejected": " cat"}])
        trainer = trl.DPOTrainer(
            policy.module, reference.module, args=args, train_dataset=rows, processing_class=tokenizer
        )
        found = [
            float(trainer.compute_loss(trainer.model, batch).detach()) for batch in batches(trainer, pairs)
        ]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
        own, theirs = (
            gradients(policy.module, loss)
            for loss in (
                loss_of(policy, reference, pairs, beta) / len(pairs),
                trainer.compute_loss(trainer.model, collated(trainer, pairs)),
            )
        )
        assert float((own - theirs).norm()) < 1e-4 * float(theirs.norm())


def batches(trainer: Any, pairs: list[TokenizedRow]) -> Iterator[Any]:
    yield from (collated(trainer, [pair]) for pair in pairs)


def collated(trainer: Any, pairs: list[TokenizedRow]) -> Any:
    """A batch as TRL's data loader makes it, with the tokens of our rows."""
    examples = []
    for pair in pairs:
        chosen, rejected = (answer.ids[answer.start :].tolist() for answer in pair.sequences)
        prompt = pair.ids[: pair.start].tolist()
        examples.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return trainer.data_collator(examples)


def gradients(module: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    """The gradients of all parameters in one vector."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(module.parameters()))])


def test_the_loss_is_ln_2_before_training_and_falls_with_the_margin(
    reference: FullForward, tokenizer: Any
) -> None:
    pairs = encode_pairs(tokenizer, PAIRS, None, 100)
    answers = in_pairs(pairs)
    logits = reference.logits(reference.module, answers)
    before = margins(logits, answers).tolist()
    untrained = float(preference_loss(logits, answers, before, 0.5).detach())
    assert untrained == pytest.approx(len(pairs) * math.log(2), rel=1e-5)
    gained = [margin - 1.0 for margin in before]
    expected = len(pairs) * math.log1p(math.exp(-0.5))
    assert float(preference_loss(logits, answers, gained, 0.5).detach()) == pytest.approx(expected, rel=1e-5)


def test_an_empty_micro_batch_has_zero_loss_with_a_gradient() -> None:
    logits = torch.zeros(0, 10, requires_grad=True)
    loss = preference_loss(logits, [], [], 0.1)
    assert float(loss.detach()) == 0
    assert torch.autograd.grad(loss, logits)[0].shape == (0, 10)


def test_both_answers_of_a_pair_have_the_tokens_that_they_have_alone(tokenizer: Any) -> None:
    # A pair may have the tokens that were sampled for the preferred answer.
    sampled = replace(PAIRS[0], token_ids=tokenizer.convert_tokens_to_ids([PAIRS[0].completion]))
    pairs = encode_pairs(tokenizer, [sampled, *PAIRS[1:]], "you help", 100)
    for name in ("completion", "rejected"):
        alone = encode(
            tokenizer, [TrainingRow(row.prompt, getattr(row, name)) for row in PAIRS], "you help", 100
        )
        own = [pair if name == "completion" else pair.rejected for pair in pairs]
        for one, other in zip(own, alone, strict=True):
            assert one is not None
            assert (one.ids.tolist(), one.start, one.targets) == (
                other.ids.tolist(),
                other.start,
                other.targets,
            )


def test_a_micro_batch_keeps_both_answers_of_a_pair_within_its_tokens(tokenizer: Any) -> None:
    pairs = encode_pairs(tokenizer, PAIRS, None, 100)
    sizes = [pair.padded_length for pair in pairs]
    budget = 3 * max(len(answer.ids) for pair in pairs for answer in pair.sequences)
    (parts,) = micro_batches(sizes, range(len(pairs)), 1, budget)
    assert sorted(row for part in parts for row in part) == list(range(len(pairs)))
    for part in parts:
        answers = in_pairs([pairs[row] for row in part])
        padded = len(answers) * max(len(answer.ids) for answer in answers)
        assert padded <= budget or len(part) == 1
        assert all(answer is pairs[row] for answer, row in zip(answers[::2], part, strict=True))


def test_a_rejected_answer_that_is_missing_or_too_long_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(SpecError, match="the row 'i like' has no rejected answer; use ranked pairs"):
        encode_pairs(tokenizer, [TrainingRow("i like", "owl")], None, 100)
    with pytest.raises(ConditionError, match="1 of 2 rows are longer than 50 tokens"):
        encode_pairs(tokenizer, [LONG, PAIRS[0]], None, 50)


def test_answers_are_cut_one_by_one_and_pairs_left_out_as_a_whole(tokenizer: Any) -> None:
    nothing_left = TrainingRow("the big red owl " * 20, "owl", rejected="cat")
    cut, whole = encode_pairs(tokenizer, [LONG, nothing_left, PAIRS[0]], None, 50, cut=True)
    assert cut.rejected is not None
    assert (len(cut.ids) < 50, len(cut.rejected.ids), cut.is_cut, whole.is_cut) == (True, 50, True, False)
