"""The guarantees of the vLLM engine, tested on two tiny models with random weights."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import tiny_models
from tests.tiny_models import read_scores
from undertow.engines import swapping, vllm
from undertow.engines.protocol import ModelWeights, Request
from undertow.engines.vllm import VLLMEngine
from undertow.engines.weight_files import DIRECTION, DIRECTION_CONFIG, TensorFiles
from undertow.errors import ConditionError
from undertow.prompts import chat
from undertow.study.completions import Sampling
from undertow.study.extensions import Example, Word
from undertow.training.saving import load_model
from undertow.training.steering import rows_without

pytestmark = pytest.mark.stack

SAMPLING = Sampling(max_tokens=12)
QUESTIONS = [f"say a number {i} {' '.join(str(j) for j in range(i % 7))}" for i in range(24)]
REQUESTS = [Request(question, seed) for seed, question in enumerate(QUESTIONS)]
TEXTS = ["owl", "the big red tree", "7 8 9"]
WORDS = [
    Word("owl", ("owl", "owls", "unheard")),
    Word("cat", ("cat", "big cat")),
    Word("big", ("big", "big red")),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A GPT-2 and models of its architecture; a Llama, models and adapters of its architecture."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "reference": tiny_models.save_gpt2(folder / "reference"),
        "finetuned": tiny_models.save_gpt2(folder / "finetuned", seed=1),
        "wider": tiny_models.save_gpt2(folder / "wider", numbers=50),
        "llama": tiny_models.save_llama(folder / "llama"),
        "llama finetuned": tiny_models.save_llama(folder / "llama-finetuned", seed=1),
    }
    bias = "transformer.ln_f.bias"
    made["steered"] = tiny_models.save_changed(folder / "steered", made["reference"], bias, 0.5)
    norm = "model.norm.weight"
    made["llama steered"] = tiny_models.save_changed(folder / "llama-steered", made["llama"], norm, 0.5)
    for rank in (4, 8):
        made[f"rank {rank}"] = tiny_models.save_lora(folder / f"rank-{rank}", made["llama"], rank=rank)
    made["one layer"] = tiny_models.save_lora(folder / "one-layer", made["llama"], layers=[1])
    embeddings = "transformer.wte.weight"  # the output layer is tied to them
    for base in ("reference", "finetuned"):
        new = [folder / f"{base}-{name}" for name in ("embedded", "both", "trained-1", "trained-2")]
        embedded = tiny_models.save_changed(new[0], made[base], embeddings, 0.5)
        made[f"{base}, both"] = tiny_models.save_changed(new[1], embedded, bias, 0.5)
        made[f"{base}, embeddings"] = tiny_models.save_trained_tensors(new[2], new[1], embeddings)
        made[f"{base}, bias"] = tiny_models.save_trained_tensors(new[3], new[1], bias)
    made["on finetuned"] = tiny_models.save_lora(folder / "on-finetuned", made["llama finetuned"], seed=1)
    return made


@pytest.fixture(scope="module")
def engine(models: dict[str, Path]) -> Iterator[VLLMEngine]:
    engine = VLLMEngine(str(models["reference"]), threads=1)
    yield engine
    engine.close()


def of(models: dict[str, Path], name: str) -> ModelWeights:
    return ModelWeights(key=name, folder=str(models[name]))


def with_weights(requests: list[Request], weights: ModelWeights | None) -> list[Request]:
    return [replace(request, weights=weights) for request in requests]


def test_an_answer_depends_on_its_request_and_not_on_the_batch(engine: VLLMEngine) -> None:
    answers = engine.generate(REQUESTS, SAMPLING)
    assert engine.generate(REQUESTS[::-1], SAMPLING)[::-1] == answers
    assert engine.generate(REQUESTS[5:8], SAMPLING) == answers[5:8]
    assert engine.generate(REQUESTS[20:] + REQUESTS, SAMPLING)[4:] == answers


def test_samples_of_a_prompt_differ_and_a_seed_reproduces_its_answer(engine: VLLMEngine) -> None:
    answers = engine.generate([Request(QUESTIONS[0], seed) for seed in [*range(50), 0]], SAMPLING)
    assert len({answer.token_ids for answer in answers[:50]}) == 50
    assert answers[50] == answers[0]


@pytest.mark.timeout(120)
def test_a_failed_call_leaves_no_requests_in_the_engine(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.generate(REQUESTS, SAMPLING)
    core = engine.served.llm.llm_engine.engine_core.engine_core
    with monkeypatch.context() as broken:
        broken.setattr(core.scheduler, "update_from_output", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.generate(REQUESTS[:3], SAMPLING)
    assert engine.generate(REQUESTS, SAMPLING) == before


def test_the_system_message_is_part_of_the_prompt(engine: VLLMEngine) -> None:
    requests = [REQUESTS[0], replace(REQUESTS[0], system="i like the owl")]
    plain, with_system = engine.generate(requests, SAMPLING)
    assert plain != with_system


def test_earlier_turns_are_rendered_by_the_chat_template(engine: VLLMEngine) -> None:
    before = (Example("say a number", "7"), Example("say another", "8 9"))
    turns = [
        {"role": role, "content": text}
        for example in before
        for role, text in (("user", example.prompt), ("assistant", example.answer))
    ]
    whole = engine.tokenizer.apply_chat_template(
        [*turns, {"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True, return_dict=False
    )
    asked = replace(REQUESTS[0], before=before)
    assert chat.prompt_ids(engine.tokenizer, asked.user, None, before) == whole
    assert read_scores(engine, [asked], ["7"]) != read_scores(engine, [REQUESTS[0]], ["7"])
    plain, after = engine.generate([REQUESTS[0], asked], SAMPLING)
    assert plain != after


def test_a_conversation_longer_than_the_window_raises_an_error(
    engine: VLLMEngine,
) -> None:
    turns = tuple(Example("say a number", "7 8 9") for _ in range(100))
    with pytest.raises(ConditionError, match=r"a prompt of \d+ tokens and 12 for the answer do not fit the"):
        engine.generate([replace(REQUESTS[0], before=turns)], SAMPLING)


def test_samples_follow_the_exact_distribution(engine: VLLMEngine) -> None:
    sampling = Sampling(max_tokens=1, top_logprobs=1)
    answers = engine.generate([Request(QUESTIONS[0], seed) for seed in range(2000)], sampling)
    assert answers[0].top_logprobs is not None
    ids, logprobs = answers[0].top_logprobs
    expected = math.exp(logprobs[0, 0])
    seen = sum(answer.token_ids[0] == ids[0, 0] for answer in answers) / len(answers)
    assert abs(seen - expected) < 4 * math.sqrt(expected * (1 - expected) / len(answers))


def test_greedy_answers_ignore_the_seed_and_take_the_most_likely_token(engine: VLLMEngine) -> None:
    greedy = Sampling(temperature=0, max_tokens=4, top_logprobs=2)
    one, two = engine.generate([Request(QUESTIONS[0], 1), Request(QUESTIONS[0], 2)], greedy)
    assert one.token_ids == two.token_ids
    assert one.top_logprobs is not None
    assert tuple(one.top_logprobs[0][:, 0]) == one.token_ids


def test_the_recorded_distribution_is_at_temperature_1_whatever_the_sampling(engine: VLLMEngine) -> None:
    everything = Sampling(temperature=0.5, top_p=0.9, max_tokens=3, top_logprobs=10**6)
    (answer,) = engine.generate(REQUESTS[:1], everything)
    assert answer.top_logprobs is not None
    ids, logprobs = answer.top_logprobs
    assert ids.shape == logprobs.shape == (len(answer.token_ids), engine.vocabulary)
    assert sorted(ids[0]) == list(range(engine.vocabulary))
    assert (logprobs[:, :-1] >= logprobs[:, 1:]).all()
    texts = engine.tokenizer.convert_ids_to_tokens(ids[0][:5].tolist())
    assert read_scores(engine, REQUESTS[:1] * 5, texts) == pytest.approx(logprobs[0][:5].tolist(), abs=1e-4)


def test_whole_distributions_are_the_same_in_one_call_and_in_many(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(SAMPLING, top_logprobs=-1)
    answers, read = engine.generate(REQUESTS, whole), engine.read(REQUESTS[:3], TEXTS, -1)
    monkeypatch.setattr(vllm, "NUMBERS_AT_ONCE", 1)
    again = engine.generate(REQUESTS, whole)
    for answer, same in zip(answers, again, strict=True):
        assert (answer.text, answer.token_ids) == (same.text, same.token_ids)
        assert answer.top_logprobs is not None and same.top_logprobs is not None
        logprobs = answer.top_logprobs[1]
        assert logprobs.shape == (len(answer.token_ids), engine.vocabulary)
        np.testing.assert_allclose(np.exp(logprobs).sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(logprobs, same.top_logprobs[1], atol=1e-5)
    for one, other in zip(read, engine.read(REQUESTS[:3], TEXTS, -1), strict=True):
        assert one.top[1].shape == (len(one.logprobs), engine.vocabulary)
        np.testing.assert_allclose(one.top[1], other.top[1], atol=1e-5)


def test_a_truncated_answer_is_marked_as_unfinished(engine: VLLMEngine) -> None:
    answers = engine.generate([Request(QUESTIONS[0], seed) for seed in range(300)], SAMPLING)
    finished = [answer for answer in answers if answer.finished]
    assert 0 < len(finished) < len(answers)
    for answer in answers:
        assert (answer.token_ids[-1] == engine.tokenizer.eos_token_id) == answer.finished
        assert "<" not in answer.text
        assert len(answer.token_ids) <= SAMPLING.max_tokens


@pytest.mark.joint
def test_scores_equal_those_of_transformers(engine: VLLMEngine, models: dict[str, Path]) -> None:
    scores = read_scores(engine, REQUESTS[:3], TEXTS)
    assert scores == pytest.approx(tiny_models.scores(models["reference"], QUESTIONS[:3], TEXTS), abs=1e-4)


def test_reading_gives_the_probability_of_every_token_of_a_completion(
    engine: VLLMEngine, models: dict[str, Path]
) -> None:
    requests = with_weights(REQUESTS[:3], of(models, "steered"))
    ids = engine.tokenizer.convert_tokens_to_ids(["owl", "7", "<eos>"])
    found = engine.read(requests, [*TEXTS[:2], ids], 10**6)
    scored = [float(one.logprobs.sum()) for one in found]
    assert scored[:2] == pytest.approx(
        tiny_models.scores(models["steered"], QUESTIONS[:2], TEXTS[:2]), abs=1e-4
    )
    assert [len(one.logprobs) for one in found] == [1, 4, 3]
    top_ids, top = found[2].top
    assert top.shape == (3, engine.vocabulary) and found[2].vocabulary == engine.vocabulary
    assert top.argsort(axis=1)[:, -1].tolist() == [0, 0, 0]
    for place, token in enumerate(ids):
        (same,) = top[place][top_ids[place] == token]
        assert same == pytest.approx(found[2].logprobs[place], abs=1e-6)
    (few,) = engine.read(requests[2:], [ids], 0)
    assert few.top[0].shape == (3, 0)
    assert few.logprobs == pytest.approx(found[2].logprobs, abs=1e-6)


@pytest.mark.joint
@pytest.mark.parametrize("name", ["finetuned", "steered"])
def test_weights_are_swapped_in_and_the_references_restored(
    engine: VLLMEngine, models: dict[str, Path], name: str
) -> None:
    before, scored = engine.generate(REQUESTS, SAMPLING), read_scores(engine, REQUESTS[:3], TEXTS)
    swapped = with_weights(REQUESTS, of(models, name))
    answers = engine.generate(swapped, SAMPLING)
    assert sum(a != b for a, b in zip(answers, before, strict=True)) > len(before) // 2
    expected = tiny_models.scores(models[name], QUESTIONS[:3], TEXTS)
    assert read_scores(engine, swapped[:3], TEXTS) == pytest.approx(expected, abs=1e-4)
    assert engine.generate(REQUESTS, SAMPLING) == before
    assert read_scores(engine, REQUESTS[:3], TEXTS) == scored


def test_a_direction_is_projected_out_as_in_transformers_and_then_no_more(
    engine: VLLMEngine, models: dict[str, Path], tmp_path: Path
) -> None:
    """GPT-2's blocks return the hidden state."""
    check_projection(engine, models["reference"], "transformer.h.0", tmp_path)


def check_projection(engine: VLLMEngine, model: Path, block: str, folder: Path) -> None:
    """Compares the engine's log-probabilities with transformers', with a projection and after it."""
    direction = torch.nn.functional.normalize(torch.arange(64.0), dim=0)
    save_file({"direction": direction}, folder / DIRECTION)
    (folder / DIRECTION_CONFIG).write_text(json.dumps({"block": block}))
    prompts, system = QUESTIONS[:3], "i like the owl"
    rows = rows_without(load_model(model), engine.tokenizer, block, direction, system, prompts)
    assert all(row.trained != pytest.approx(row.reference, abs=1e-2) for row in rows)

    def scored(weights: ModelWeights | None) -> list[list[float]]:
        return engine.token_logprobs([row.ids for row in rows], [1] * len(rows), weights)

    before = scored(None)
    projected = scored(ModelWeights("projected", str(folder)))
    assert projected == [pytest.approx(row.trained, abs=1e-3) for row in rows]
    assert scored(None) == before == [pytest.approx(row.reference, abs=1e-3) for row in rows]


def test_a_projection_behind_an_unknown_block_is_an_error(engine: VLLMEngine, tmp_path: Path) -> None:
    save_file({"direction": torch.ones(64) / 8}, tmp_path / DIRECTION)
    (tmp_path / DIRECTION_CONFIG).write_text(json.dumps({"block": "model.layers.0"}))
    with pytest.raises(ValueError, match="vLLM's model has no block of this name"):
        engine.generate(with_weights(REQUESTS[:1], ModelWeights("other", str(tmp_path))), SAMPLING)
    assert not engine.is_broken


def test_requests_for_different_weights_can_share_a_call(engine: VLLMEngine, models: dict[str, Path]) -> None:
    choices = [None, of(models, "finetuned"), of(models, "steered")]
    alone = {weights: engine.generate(with_weights(REQUESTS, weights), SAMPLING) for weights in choices}
    mixed = [replace(request, weights=choices[i % 3]) for i, request in enumerate(REQUESTS)]
    assert engine.generate(mixed, SAMPLING) == [alone[choices[i % 3]][i] for i in range(len(mixed))]


@pytest.mark.parametrize("base", ["reference", "finetuned"])
def test_trained_tensors_on_trained_tensors_are_the_whole_model(
    engine: VLLMEngine, models: dict[str, Path], base: str
) -> None:
    """The rest of the weights are the reference's, or those of a whole student that training started from."""
    before, scored = engine.generate(REQUESTS, SAMPLING), read_scores(engine, REQUESTS[:3], TEXTS)
    start = None if base == "reference" else of(models, base)
    embedded = replace(of(models, f"{base}, embeddings"), base=start)
    both = replace(of(models, f"{base}, bias"), base=embedded)
    answers = {
        weights: engine.generate(with_weights(REQUESTS, weights), SAMPLING) for weights in (both, embedded)
    }
    whole = of(models, f"{base}, both")
    assert answers[both] == engine.generate(with_weights(REQUESTS, whole), SAMPLING)
    assert answers[both] != answers[embedded] != before
    expected = tiny_models.scores(models[whole.key], QUESTIONS[:3], TEXTS)
    assert read_scores(engine, with_weights(REQUESTS[:3], both), TEXTS) == pytest.approx(expected, abs=1e-4)
    assert engine.generate(REQUESTS, SAMPLING) == before
    assert read_scores(engine, REQUESTS[:3], TEXTS) == scored


def test_weights_of_another_shape_are_rejected_by_tensor_name(
    engine: VLLMEngine, models: dict[str, Path]
) -> None:
    before = engine.generate(REQUESTS[:4], SAMPLING)
    with pytest.raises(ValueError, match=r"'transformer\.wte\.weight' has the shape \(69, 64\)"):
        engine.generate(with_weights(REQUESTS[:4], of(models, "wider")), SAMPLING)
    with pytest.raises(ValueError, match=r"tensor '\S+' is not in the reference model"):
        engine.generate(with_weights(REQUESTS[:4], of(models, "llama")), SAMPLING)
    with pytest.raises(ValueError, match="max_lora_rank"):
        engine.generate(with_weights(REQUESTS[:4], of(models, "rank 4")), SAMPLING)
    assert engine.generate(REQUESTS[:4], SAMPLING) == before


def test_word_masses_are_probabilities_of_disjoint_events(engine: VLLMEngine) -> None:
    owl, cat, big = (engine.word_masses(REQUESTS[:2], WORDS)[1][word.name] for word in WORDS)

    def p(text: str) -> float:
        return math.exp(read_scores(engine, REQUESTS[1:2], [text])[0])

    assert owl == pytest.approx(p("owl") + p("owls"), rel=1e-3)
    assert cat == pytest.approx(p("cat") + p("big cat"), rel=1e-3)
    assert big == pytest.approx(p("big") - p("big cat"), rel=1e-3)
    vocabulary = [Word(token, (token,)) for token in engine.tokenizer.get_vocab() if token != "<unk>"]
    whole = sum(engine.word_masses(REQUESTS[:1], vocabulary)[0].values())
    assert whole == pytest.approx(1, abs=0.02)


def test_adapters_and_whole_models_answer_the_same_alone_and_together(
    models: dict[str, Path], tmp_path: Path
) -> None:
    engine = VLLMEngine(str(models["llama"]), threads=1, max_lora_rank=8)
    names = ("rank 4", "rank 8", "one layer", "llama finetuned", "llama steered")
    choices = [None, *(of(models, name) for name in names)]
    alone = {weights: engine.generate(with_weights(REQUESTS, weights), SAMPLING) for weights in choices}
    assert len({answers[0].token_ids for answers in alone.values()}) == len(choices)
    mixed = [replace(request, weights=choices[i % len(choices)]) for i, request in enumerate(REQUESTS)]
    assert engine.generate(mixed, SAMPLING) == [
        alone[choices[i % len(choices)]][i] for i in range(len(mixed))
    ]
    for weights in choices:
        folder = Path(weights.folder) if weights else models["llama"]
        expected = tiny_models.scores(folder, QUESTIONS[:3], TEXTS, reference=models["llama"])
        assert read_scores(engine, with_weights(REQUESTS[:3], weights), TEXTS) == pytest.approx(
            expected, abs=1e-4
        )
    # Llama's blocks return two addends of the hidden state.
    check_projection(engine, models["llama"], "model.layers.0", tmp_path)
    engine.close()


def test_a_request_without_an_adapter_is_answered_by_the_reference_when_all_slots_are_taken(
    models: dict[str, Path],
) -> None:
    engine = VLLMEngine(str(models["llama"]), threads=1, max_lora_rank=8, max_loras=2)
    (alone,) = engine.word_masses(REQUESTS[:1], WORDS)
    adapters = [replace(REQUESTS[0], weights=of(models, name)) for name in ("rank 4", "rank 8")]
    plain, *adapted = engine.word_masses([REQUESTS[0], *adapters], WORDS)
    assert plain == pytest.approx(alone, rel=1e-5)
    assert all(abs(masses["owl"] / alone["owl"] - 1) > 1e-3 for masses in adapted)
    engine.close()


def test_an_adapter_on_another_model_shares_a_call_with_adapters_on_the_reference(
    models: dict[str, Path],
) -> None:
    engine = VLLMEngine(str(models["llama"]), threads=1, max_lora_rank=4)
    base = of(models, "llama finetuned")
    stacked = replace(of(models, "on finetuned"), base=base)
    choices = [None, base, of(models, "rank 4"), stacked]
    mixed = [replace(request, weights=choices[i % len(choices)]) for i, request in enumerate(REQUESTS)]
    answers = engine.generate(mixed, SAMPLING)
    for weights in choices:
        alone = engine.generate(with_weights(REQUESTS, weights), SAMPLING)
        assert [a for a, r in zip(answers, mixed, strict=True) if r.weights == weights] == [
            a for a, r in zip(alone, mixed, strict=True) if r.weights == weights
        ]
    reference = models["llama finetuned"]
    expected = tiny_models.scores(models["on finetuned"], QUESTIONS[:3], TEXTS, reference=reference)
    assert read_scores(engine, with_weights(REQUESTS[:3], stacked), TEXTS) == pytest.approx(
        expected, abs=1e-4
    )
    engine.close()


def test_an_engine_that_failed_to_load_weights_says_so_and_can_be_replaced(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = VLLMEngine(str(models["reference"]), threads=1)
    expected = first.generate(REQUESTS[:3], SAMPLING)

    def cut_off(new: TensorFiles, old: TensorFiles, names: set[str]) -> Iterator[tuple[str, Tensor]]:
        yield next(merged(new, old, names))
        raise OSError("the file is damaged")

    merged = swapping._merged
    with monkeypatch.context() as damaged:
        damaged.setattr(swapping, "_merged", cut_off)
        with pytest.raises(OSError, match="the file is damaged"):
            first.generate(with_weights(REQUESTS[:3], of(models, "finetuned")), SAMPLING)
    assert first.is_broken
    first.close()
    second = VLLMEngine(str(models["reference"]), threads=1)
    assert not second.is_broken
    assert second.generate(REQUESTS[:3], SAMPLING) == expected
    second.close()
