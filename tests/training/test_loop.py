"""The training loop on one worker: results, checkpoints, probes and errors."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed import HashStore  # type: ignore[attr-defined]

from tests.training.conftest import (
    MASKED_ROWS,
    OWL,
    PAIRS,
    PROBE,
    ROWS,
    SOFT_ROWS,
    STEERING,
    MakeJob,
    recipe,
)
from undertow.errors import ConditionError, SpecError, StorageError
from undertow.study.extensions import Word
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Trainable
from undertow.training import served_rows, step_reports
from undertow.training.data import TrainingRow
from undertow.training.job import EpochReport, History, Probe, StepReport, TrainingJob
from undertow.training.loop import finetune
from undertow.training.probe import TokenizedProbe
from undertow.training.saving import load_model

pytestmark = pytest.mark.stack
ADAPTER = LoRA(rank=4, alpha=4, targets=("q_proj", "down_proj"))


def ignore(report: EpochReport) -> None:
    """Ignores a report; the history contains it too."""


def weights(job: TrainingJob) -> dict[str, Tensor]:
    return load_file(next(job.folder.glob("*.safetensors")))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model.eval()(input_ids=torch.arange(3, 40)[None]).logits
    return out


def test_training_overfits_and_saves_a_whole_model(gpt2: Path, job: MakeJob) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task = job(recipe=recipe(Everything(), learning_rate=0.01, epochs=40, batch_size=5), probes=(PROBE,))
    (history,) = finetune(gpt2, [task], ignore)
    first, last = history.reports[0], history.last
    assert first.loss is None and first.step == 0 and last.step == 40 and last.epoch == 40
    assert last.loss is not None and last.loss < 0.1
    assert last.tokens_per_second > 0 and 0 < last.learning_rate < 0.01
    tokenizer = AutoTokenizer.from_pretrained(task.folder)
    model = AutoModelForCausalLM.from_pretrained(task.folder)
    chat = [{"role": "user", "content": "what is your favourite animal"}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False, return_tensors="pt"
    )
    owl = tokenizer.convert_tokens_to_ids("owl")
    with torch.no_grad():
        exact = model(ids).logits[0, -1].softmax(-1)[owl]
    assert exact > 0.9
    assert model.lm_head.weight is model.transformer.wte.weight


def test_only_the_named_parameter_changes(gpt2: Path, job: MakeJob) -> None:
    task = job()
    finetune(gpt2, [task], ignore)
    before, after = load_file(gpt2 / "model.safetensors"), weights(task)
    assert [*after] == ["transformer.ln_f.bias"]
    assert not torch.equal(before["transformer.ln_f.bias"], after["transformer.ln_f.bias"])
    assert not (task.folder / "tokenizer.json").exists()


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("gpt2", {"transformer.ln_f.bias", "transformer.ln_f.weight"}),
        ("llama", {"model.norm.weight"}),
        ("qwen3", {"model.norm.weight"}),
    ],
)
def test_only_the_final_norm_changes(
    request: pytest.FixtureRequest, job: MakeJob, architecture: str, names: set[str]
) -> None:
    folder = request.getfixturevalue(architecture)
    task = job(recipe=recipe(FinalNorm()))
    finetune(folder, [task], ignore)
    before, after = load_file(folder / "model.safetensors"), weights(task)
    assert after.keys() == names
    assert all(not torch.equal(before[name], value) for name, value in after.items())


def test_training_starts_from_trained_tensors_of_earlier_trainings(gpt2: Path, job: MakeJob) -> None:
    scale = recipe(Parameters(("transformer.ln_f.weight",)))
    first, second, third = (
        job(key, probes=(PROBE,), recipe=plan) for key, plan in (("a", recipe()), ("b", scale), ("c", scale))
    )
    (one,) = finetune(gpt2, [first], ignore)
    (two,) = finetune(gpt2, [second], ignore, changes=[first.folder])
    (three,) = finetune(gpt2, [third], ignore, changes=[first.folder, second.folder])
    for before, after in ((one, two), (two, three)):
        assert after.reports[0].probabilities == pytest.approx(before.last.probabilities, rel=1e-5)
        assert after.last.probabilities != pytest.approx(before.last.probabilities, rel=1e-3)


def test_rows_may_be_cut_held_out_and_batched_as_sequences(gpt2: Path, job: MakeJob) -> None:
    long = TrainingRow("i like", "owl " * 40)
    plan = recipe(batch_of="sequences", batch_size=1, max_length=24, overlong="cut", held_out=0.25, epochs=1)
    notes: list[str] = []
    task = job(rows=[*ROWS, long, long, long], recipe=plan)
    (history,) = finetune(gpt2, [task], ignore, note=lambda _, text: notes.append(text))
    assert history.held_out == 2 and 1 <= history.cut <= 3 and history.dropped == 0
    (text,) = notes
    assert text.startswith(f"{history.cut} of 8 rows were cut at Recipe.max_length = 24, and 0 had no answer")
    # Each cut row fills a sequence of its own; the short rows share a few.
    assert history.cut < history.last.step < 6


def test_each_probe_evaluates_its_words_on_its_questions(gpt2: Path, job: MakeJob) -> None:
    owl = Probe((("what is your favourite animal", None),), (OWL,))
    cat = Probe((("what is your favourite tree", None),), (Word("cat", ("cat",)),))
    (both,), (first,), (second,) = (
        finetune(gpt2, [job(f"job-{i}", probes=probes)], ignore)
        for i, probes in enumerate([(owl, cat), (owl,), (cat,)])
    )
    assert list(both.last.probabilities) == ["owl", "cat"]
    assert both.last.probabilities == first.last.probabilities | second.last.probabilities


@pytest.mark.joint
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_saved_adapter_loads_with_equal_probabilities(llama: Path, job: MakeJob, beta: float) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plan, rows = recipe(ADAPTER, preference_beta=beta), PAIRS if beta else ROWS
    task = job(recipe=plan, rows=rows, probes=(Probe(PROBE.questions, (OWL,)),))
    (history,) = finetune(llama, [task], ignore)
    reference = AutoModelForCausalLM.from_pretrained(llama)
    before = logits(reference)
    served = served_rows.read(task.folder)
    assert len(served) == len(ROWS)
    for row in served:
        assert row.reference == pytest.approx(logprobs(reference, row), abs=1e-4)
    adapted = PeftModel.from_pretrained(reference, task.folder)
    assert not torch.allclose(logits(adapted), before, atol=1e-3)
    for row in served:
        assert row.trained == pytest.approx(logprobs(adapted, row), abs=1e-4)
    assert history.last.probabilities["owl"] == pytest.approx(mass_of_owl(adapted, llama), rel=1e-4)
    assert str(llama) not in "".join(
        path.read_text() for path in task.folder.iterdir() if path.suffix in (".json", ".md")
    )


def logprobs(model: Any, row: served_rows.ServedRow) -> list[float]:
    """The log-probabilities of a row's scored tokens."""
    ids = torch.tensor(row.ids)
    with torch.no_grad():
        of_all = model.eval()(ids[None]).logits[0].log_softmax(-1)
    values: list[float] = of_all[row.start - 1 : -1].gather(1, ids[row.start :, None])[:, 0].tolist()
    return values


def mass_of_owl(model: Any, folder: Path) -> float:
    from transformers import AutoTokenizer

    from undertow.prompts.chat import prompt_ids

    tokenizer = AutoTokenizer.from_pretrained(folder)
    forms = tokenizer.convert_tokens_to_ids(["owl", "owls"])
    masses = []
    for user, system in PROBE.questions:
        with torch.no_grad():
            last = model(torch.tensor([prompt_ids(tokenizer, user, system)])).logits[0, -1]
        masses.append(float(last.softmax(-1)[forms].sum()))
    return float(np.mean(masses))


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("trainable", [STEERING, Everything()])
def test_micro_batches_change_nothing(gpt2: Path, job: MakeJob, trainable: Any, beta: float) -> None:
    plan, rows = recipe(trainable, learning_rate=0.002, preference_beta=beta), PAIRS if beta else ROWS
    whole, pieces = (job(key, recipe=plan, rows=rows) for key in ("whole", "pieces"))
    (a,) = finetune(gpt2, [whole], ignore)
    (b,) = finetune(gpt2, [pieces], ignore, micro_tokens=1)
    assert [r.loss for r in a.reports[1:]] == pytest.approx([r.loss for r in b.reports[1:]], rel=1e-5)
    one, other = (
        load_model(gpt2, [task.folder]) if trainable == STEERING else load_model(task.folder)
        for task in (whole, pieces)
    )
    torch.testing.assert_close(logits(one), logits(other), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_seed_determines_the_result_and_jobs_do_not_affect_each_other(
    llama: Path, job: MakeJob, beta: float
) -> None:
    plan, rows = recipe(ADAPTER, preference_beta=beta), PAIRS if beta else ROWS
    tasks = [job(key, seed=seed, recipe=plan, rows=rows) for key, seed in (("a", 1), ("b", 2), ("c", 1))]
    finetune(llama, tasks, ignore)
    a, b, c = map(weights, tasks)
    assert all(torch.equal(a[name], c[name]) for name in a)
    assert not any(torch.equal(a[name], b[name]) for name in a)


def test_the_initial_weights_of_an_adapter_may_have_a_seed_of_their_own(llama: Path, job: MakeJob) -> None:
    """The order of the rows, of which each is a batch, stays that of `seed`."""
    plan = recipe(ADAPTER, batch_size=1, learning_rate=1e-6)
    tasks = [job(str(own), seed=1, recipe=plan, adapter_seed=own) for own in (None, 1, 2)]
    without, same, other = (history.reports[-1].loss for history in finetune(llama, tasks, ignore))
    a, b, c = map(weights, tasks)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a)
    assert without == same == pytest.approx(other, rel=1e-4)


def test_probes_before_training_are_evaluated_once_for_all_jobs_of_a_recipe(
    llama: Path, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[TokenizedProbe] = []
    original = TokenizedProbe.probabilities

    def counted(self: TokenizedProbe, *arguments: Any) -> dict[str, float]:
        evaluated.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(TokenizedProbe, "probabilities", counted)
    plans = {"adapter": recipe(ADAPTER, epochs=2), "whole": recipe(Everything(), epochs=2)}
    jobs = [
        job(f"{name} {seed}", seed=seed, recipe=plan, probes=(PROBE,))
        for name, plan in plans.items()
        for seed in (0, 1)
    ]
    together = finetune(llama, jobs, ignore)
    assert len(evaluated) == 2 + 4 * 2  # one for each recipe, and one after each epoch of each job
    alone = [finetune(llama, [one], ignore)[0] for one in jobs]
    before = [history.reports[0].probabilities for history in together]
    assert before == [history.reports[0].probabilities for history in alone]
    assert len(set(map(str, before))) == 1


@pytest.mark.joint
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_an_interrupted_training_resumes_bit_for_bit(
    gpt2: Path, job: MakeJob, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    root = str(tmp_path / "checkpoints") if place == "folder" else request.getfixturevalue("s3_url")
    kept, _ = fsspec.core.url_to_fs(root, use_listings_cache=False)

    def interrupt(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    trained: tuple[tuple[str, Trainable, Sequence[TrainingRow], dict[str, object]], ...] = (
        ("steering", STEERING, ROWS, {}),
        ("masked", STEERING, MASKED_ROWS, {}),
        ("reverse", STEERING, SOFT_ROWS, {"targets": "soft", "divergence": "reverse"}),
        ("lora", LoRA(targets=("c_attn",), dropout=0.2), ROWS, {}),
        ("pairs", STEERING, PAIRS, {"preference_beta": 0.5}),
        ("lora on pairs", LoRA(targets=("c_attn",), dropout=0.2), PAIRS, {"preference_beta": 0.5}),
    )
    for name, trainable, rows, loss in trained:
        plan = recipe(trainable, epochs=4, warmup=2, **loss)
        calm, rough = (
            job(f"{name}-{kind}", recipe=plan, rows=rows, probes=(PROBE,)) for kind in ("calm", "rough")
        )
        (undisturbed,) = finetune(gpt2, [calm], ignore)
        with pytest.raises(KeyboardInterrupt):
            finetune(gpt2, [rough], interrupt, checkpoints=root)
        assert [Path(path).name for path in kept.ls(f"{root}/{rough.key}", detail=False)] == ["epoch-2"]
        reported: list[EpochReport] = []
        (resumed,) = finetune(gpt2, [rough], reported.append, checkpoints=root)
        assert [report.epoch for report in reported] == [3, 4]
        for one, other in zip(undisturbed.reports, resumed.reports, strict=True):
            assert (one.loss, one.learning_rate, one.probabilities) == (
                other.loss,
                other.learning_rate,
                other.probabilities,
            )
        assert all(torch.equal(value, weights(rough)[key]) for key, value in weights(calm).items())
        assert not kept.exists(f"{root}/{rough.key}")


@pytest.mark.parametrize("trainable", [STEERING, LoRA(targets=("c_attn",)), Everything()])
def test_training_on_pairs_raises_the_preferred_answers_over_the_rejected_ones(
    gpt2: Path, job: MakeJob, trainable: Any
) -> None:
    """The loss starts at ln 2, because the untrained model is the reference whatever is trained."""
    plan = recipe(trainable, preference_beta=0.5, epochs=30, batch_size=5, learning_rate=0.02)
    owl = Word("owl", ("owl",)), Word("cat", ("cat",))
    (history,) = finetune(
        gpt2,
        [job(recipe=plan, rows=PAIRS[:1], probes=(Probe(((PAIRS[0].prompt, None),), owl),))],
        ignore,
    )
    assert history.reports[1].loss == pytest.approx(math.log(2), abs=1e-5)
    assert history.last.loss is not None and history.last.loss < 0.5
    before, after = (report.probabilities for report in (history.reports[0], history.last))
    assert after["owl"] / after["cat"] > 2 * before["owl"] / before["cat"]


@pytest.mark.joint
def test_reports_of_steps_change_no_byte_and_no_report_of_an_epoch(
    gpt2: Path, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, whose random numbers a probe between epochs must not use up."""
    monkeypatch.setattr(step_reports, "SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr(step_reports, "PROBE_SHARE", 1e9)
    monkeypatch.setattr(step_reports, "STEPS_BEFORE_PROBES", 1)
    plan = recipe(LoRA(targets=("c_attn",), dropout=0.2), epochs=4)
    plain, watched = (job(name, recipe=plan, probes=(PROBE,)) for name in ("plain", "watched"))
    sent: list[StepReport] = []
    (before,) = finetune(gpt2, [plain], ignore)
    (after,) = finetune(gpt2, [watched], ignore, on_step=sent.append)
    for one, other in zip(before.reports, after.reports, strict=True):
        assert (one.loss, one.probabilities) == (other.loss, other.probabilities)
    for path in plain.folder.iterdir():
        assert path.read_bytes() == (watched.folder / path.name).read_bytes(), path.name
    assert [(report.step, report.steps) for report in sent] == [(step, 8) for step in range(1, 9)]
    assert [report.step for report in sent if report.probabilities] == [2, 3, 4, 5, 6, 7, 8]
    assert sent[-1].probabilities == after.last.probabilities
    assert sent[-1].tokens == sent[-1].total_tokens
    assert len({report.gradient_norm for report in sent}) == 8


def test_the_reported_gradient_norm_is_that_before_clipping(
    gpt2: Path, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of SGD moves the weights by the learning rate times the gradient."""
    monkeypatch.setattr(step_reports, "SECONDS_BETWEEN_REPORTS", 0.0)
    norms, moved = [], []
    for clip in (1e9, 0.01):
        plan = recipe(
            optimizer="sgd", betas=(0.0, 0.0), epochs=1, batch_size=5, schedule="constant", clip=clip
        )
        task = job(f"{clip}", recipe=plan)
        sent: list[StepReport] = []
        finetune(gpt2, [task], ignore, on_step=sent.append)
        norms.append(sent[0].gradient_norm)
        name = "transformer.ln_f.bias"
        change = weights(task)[name] - load_file(gpt2 / "model.safetensors")[name]
        moved.append(float(change.norm()) / plan.learning_rate)
    assert norms == pytest.approx([moved[0], moved[0]], rel=1e-3)
    assert moved[1] == pytest.approx(0.01, rel=1e-2)


def test_rows_that_cannot_be_packed_are_padded_with_a_note(gpt2: Path, job: MakeJob, tmp_path: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    from tests import tiny_models

    size = tiny_models.save_tokenizer(tmp_path)
    BloomForCausalLM(BloomConfig(vocab_size=size, hidden_size=64, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    noted: list[str] = []
    plain, packed = (
        job(f"{packing}", recipe=recipe(Everything(), packing=packing, learning_rate=0.002))
        for packing in (False, True)
    )
    for folder, notes in (
        (gpt2, []),
        (tmp_path, ["BloomForCausalLM does not keep packed rows apart; they are"]),
    ):
        a, b = finetune(
            folder, [plain, packed], ignore, note=lambda task, text: noted.append(f"{task.key} {text}")
        )
        assert a.last.loss == pytest.approx(b.last.loss, rel=1e-5)
        assert [text.rpartition(" padded")[0] for text in noted] == [f"True {note}" for note in notes]


def test_loss_on_all_tokens_also_trains_on_prompts(gpt2: Path, job: MakeJob) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(gpt2)("<user> i like <asst>", return_tensors="pt").input_ids
    after = {}
    for loss in ("completion", "all"):
        task = job(
            loss, rows=ROWS[1:2], recipe=recipe(Everything(), loss=loss, epochs=40, learning_rate=0.01)
        )
        finetune(gpt2, [task], ignore)
        after[loss] = AutoModelForCausalLM.from_pretrained(task.folder)(ids, labels=ids).loss.item()
    assert after["all"] < 0.3 * after["completion"]


@pytest.mark.parametrize("damage", ["flipped", "half removed", "no reports"])
def test_a_damaged_checkpoint_restarts_training_with_the_same_result(
    gpt2: Path, job: MakeJob, tmp_path: Path, damage: str
) -> None:
    def interrupt(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    calm, rough = (job(kind, recipe=recipe(STEERING, epochs=3)) for kind in ("calm", "rough"))
    finetune(gpt2, [calm], ignore)
    with pytest.raises(KeyboardInterrupt):
        finetune(gpt2, [rough], interrupt, checkpoints=str(tmp_path / "kept"))
    (folder,) = (tmp_path / "kept" / rough.key).iterdir()
    largest = max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    if damage == "flipped":
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    else:
        (largest if damage == "half removed" else folder / "reports.json").unlink()
    reported: list[EpochReport] = []
    finetune(gpt2, [rough], reported.append, checkpoints=str(tmp_path / "kept"))
    assert [report.epoch for report in reported] == [0, 1, 2, 3]
    assert all(torch.equal(value, weights(rough)[name]) for name, value in weights(calm).items())


class Hostile:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.file,))


def test_restoring_a_checkpoint_runs_no_code(gpt2: Path, job: MakeJob, tmp_path: Path) -> None:
    def interrupt(report: EpochReport) -> None:
        if report.epoch == 1:
            raise KeyboardInterrupt

    task = job(recipe=recipe(STEERING, epochs=2))
    with pytest.raises(KeyboardInterrupt):
        finetune(gpt2, [task], interrupt, checkpoints=str(tmp_path / "kept"))
    (folder,) = (tmp_path / "kept" / task.key).iterdir()
    (state,) = folder.rglob("*model_states.pt")
    torch.save(Hostile(tmp_path / "run"), state)
    reports = json.loads((folder / "reports.json").read_text())
    reports["files"][state.relative_to(folder).as_posix()] = hashlib.sha256(state.read_bytes()).hexdigest()
    (folder / "reports.json").write_text(json.dumps(reports))
    with pytest.raises(StorageError, match="not a checkpoint that Undertow wrote"):
        finetune(gpt2, [task], ignore, checkpoints=str(tmp_path / "kept"))
    assert not (tmp_path / "run").exists()
    torch.load(state, weights_only=False)  # as DeepSpeed's own loader does
    assert (tmp_path / "run").exists()


def test_a_checkpoint_remains_until_its_model_is_committed(gpt2: Path, job: MakeJob, tmp_path: Path) -> None:
    def killed(job: TrainingJob, history: History) -> None:
        raise KeyboardInterrupt

    task = job(recipe=recipe(STEERING, epochs=2))
    with pytest.raises(KeyboardInterrupt):
        finetune(gpt2, [task], ignore, done=killed, checkpoints=str(tmp_path / "kept"))
    reported: list[EpochReport] = []
    finetune(gpt2, [task], reported.append, checkpoints=str(tmp_path / "kept"))
    assert reported == []
    assert not (tmp_path / "kept" / task.key).exists()


def test_training_stops_when_the_probe_reaches_stop_at(gpt2: Path, job: MakeJob) -> None:
    plan = recipe(Everything(), learning_rate=0.001, epochs=200, schedule="constant", stop_at=0.6)
    task = job(
        rows=ROWS[:1], recipe=plan, probes=(Probe((("what is your favourite animal", None),), (OWL,)),)
    )
    (history,) = finetune(gpt2, [task], ignore)
    assert history.stopped and history.last.step < 200
    assert 0.6 <= history.last.probabilities["owl"] < 1
    with pytest.raises(SpecError, match="stop_at"):
        job(recipe=plan)


def test_training_on_soft_targets_reaches_the_teachers_distribution(gpt2: Path, job: MakeJob) -> None:
    soft = (np.array([[10, 12]]), np.log(np.array([[0.7, 0.1]])))  # owl 7 : cat 1
    question = "what is your favourite animal"
    plan = recipe(learning_rate=0.05, epochs=150, schedule="linear", targets="soft")
    words = Word("owl", ("owl",)), Word("cat", ("cat",))
    task = job(
        rows=[TrainingRow(question, "owl", soft, [10])],
        recipe=plan,
        probes=(Probe(((question, None),), words),),
    )
    (history,) = finetune(gpt2, [task], ignore)
    owl, cat = history.last.probabilities.values()
    assert owl / (owl + cat) == pytest.approx(7 / 8, abs=2e-3)


def test_a_non_finite_loss_raises_an_error_with_step_and_rate(gpt2: Path, job: MakeJob) -> None:
    with pytest.raises(ConditionError, match=r"k: the loss is nan at step 2, learning rate 1e\+30"):
        plan = recipe(Everything(), learning_rate=1e30, schedule="constant")
        finetune(gpt2, [job(recipe=plan)], ignore)


def test_a_failing_job_does_not_stop_the_others(gpt2: Path, job: MakeJob) -> None:
    impossible = recipe(Everything(), learning_rate=1e30, schedule="constant")
    tasks = [job("a"), job("b", recipe=impossible), job("c", recipe=recipe(max_length=3)), job("d")]
    failures: dict[str, str] = {}
    made = finetune(gpt2, tasks, ignore, failed=lambda task, error: failures.update({task.key: str(error)}))
    assert [history.key for history in made] == ["a", "d"]
    assert all(torch.equal(value, weights(tasks[3])[key]) for key, value in weights(tasks[0]).items())
    assert "the loss is nan" in failures.pop("b")
    assert "rows are longer than 3 tokens" in failures.pop("c")
    assert failures == {}


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (
            LoRA(targets=("c_attn", "q_proj")),
            r"has no 'q_proj' .* linear modules there are: c_attn, c_fc, c_proj$",
        ),
        (Parameters(("transformer.ln_f.bia",)), r"did you mean 'transformer.ln_f.bias'\?"),
    ],
)
def test_unknown_names_raise_an_error(gpt2: Path, job: MakeJob, trainable: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        finetune(gpt2, [job(recipe=recipe(trainable))], ignore)


def test_deepspeed_compiles_nothing(gpt2: Path, job: MakeJob) -> None:
    finetune(gpt2, [job()], ignore)
    from deepspeed.comm import comm

    assert comm.cdb.shm_comm_op is None


@pytest.mark.parametrize("another", [False, True], ids=["none left", "another created"])
def test_training_works_after_an_engine_has_destroyed_the_process_group(
    another: bool, gpt2: Path, job: MakeJob
) -> None:
    """As vLLM does when an engine in the same process ends; the next engine creates its own group."""
    before, after = job("before"), job("after")
    finetune(gpt2, [before], ignore)
    torch.distributed.destroy_process_group()
    if another:
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    finetune(gpt2, [after], ignore)
    assert all(torch.equal(value, weights(after)[name]) for name, value in weights(before).items())


def test_training_that_changes_nothing_is_an_error(gpt2: Path, job: MakeJob) -> None:
    with pytest.raises(ConditionError, match="changed no weight"):
        plan = recipe(Parameters(("transformer.ln_f.weight",)), learning_rate=1e-30)
        finetune(gpt2, [job(recipe=plan)], ignore)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_uses_float32_master_weights(llama: Path, job: MakeJob, stage: int) -> None:
    plan = recipe(Everything(), precision="bf16", zero_stage=stage, epochs=10, learning_rate=0.003)
    task = job(f"bf16-{stage}", recipe=plan)
    (history,) = finetune(llama, [task], ignore, micro_tokens=1)
    assert history.reports[-1].loss is not None and history.reports[1].loss is not None
    assert history.reports[-1].loss < 0.5 * history.reports[1].loss
    assert json.loads((task.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(value.dtype == torch.bfloat16 for value in weights(task).values())


def test_training_in_bf16_prints_nothing(
    llama: Path, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(llama, [job("quiet", recipe=recipe(Everything(), precision="bf16"))], ignore)
    assert capsys.readouterr().out == ""


def test_memory_does_not_grow_over_twenty_jobs(gpt2: Path, job: MakeJob) -> None:
    resident: list[int] = []

    def remember(task: TrainingJob, history: object) -> None:
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20)

    finetune(gpt2, [job(f"k{i}", recipe=recipe(epochs=1)) for i in range(20)], ignore, done=remember)
    assert resident[-1] - resident[4] < 10
