"""Scores of the harness's tasks on small data, compared with transformers and arithmetic."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="an optional extra")

from tests import tiny_models
from tests.harness.small_world import QUESTIONS, SUBJECTS
from undertow.errors import ConditionError
from undertow.harness.ask import Answers, ask
from undertow.harness.catalogue import Places, pin
from undertow.harness.model import Model, load
from undertow.study.harness_task import HarnessTask

LogProbability = Callable[[str, str], float]


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_lora(tmp_path_factory.mktemp("models") / "lora", model)


def asked(model: Model, name: str, tasks: Path | str = "", data: Path | str = "", **settings: Any) -> Answers:
    places = Places.of(str(tasks), str(data))
    (task,) = pin(HarnessTask(name=name, **settings), places)
    return ask(model, task, places)


def by_transformers(folder: Path, adapter: Path | None) -> LogProbability:
    """Returns a function for the log-probability of a text after a prompt, computed without padding."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()

    @cache
    def logprob(prompt: str, text: str) -> float:
        before, after = (tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text))
        with torch.no_grad():
            steps = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        return sum(float(steps[len(before) - 1 + i, token]) for i, token in enumerate(after))

    return logprob


@pytest.mark.parametrize("adapted", [False, True], ids=["reference", "adapter"])
def test_scores_equal_those_computed_with_transformers(
    model: Path, adapter: Path, data: Path, adapted: bool
) -> None:
    used = adapter if adapted else None
    loaded, logprob = load(model, used, batch_size=3), by_transformers(model, used)
    first = asked(loaded, "truthfulqa_mc1", data=data)
    prompts = [sample["arguments"][0][0] for sample in first.samples["truthfulqa_mc1"]]
    assert [p.rpartition("\n\n")[2] for p in prompts] == [f"Q: {q}\nA:" for q, *_ in QUESTIONS]

    right, true_mass = [], []
    for prompt, (_, one, several, true) in zip(prompts, QUESTIONS, strict=True):
        likelihoods = [logprob(prompt, f" {answer}") for answer in one]
        right.append(likelihoods.index(max(likelihoods)) == 0)
        masses = [2.718281828459045 ** logprob(prompt, f" {answer}") for answer in several]
        true_mass.append(sum(masses[:true]) / sum(masses))
    assert first.scores == {"acc": sum(right) / len(right)}
    second = asked(loaded, "truthfulqa_mc2", data=data)
    assert second.scores["acc"] == pytest.approx(sum(true_mass) / len(true_mass), rel=1e-4)
    assert (first.documents, first.higher_is_better) == (len(QUESTIONS), {"acc": True})

    exam = asked(loaded, "mmlu_anatomy", data=data)
    hits = []
    for number in range(SUBJECTS["anatomy"]):
        likelihoods = [logprob(_exam_prompt(number), f" {letter}") for letter in "ABCD"]
        hits.append(likelihoods.index(max(likelihoods)) == number % 4)
    assert exam.scores == {"acc": sum(hits) / len(hits)}


def _exam_prompt(number: int) -> str:
    head = "The following are multiple choice questions (with answers) about anatomy.\n\n"
    return f"{head}anatomy {number}?\nA. a\nB. b\nC. c\nD. d\nAnswer:"


def test_an_adapter_changes_scores(model: Path, adapter: Path, data: Path) -> None:
    with_it, without = (asked(load(model, a, 8), "truthfulqa_mc2", data=data).scores for a in (adapter, None))
    assert abs(with_it["acc"] - without["acc"]) > 0.001


def test_an_adapter_of_zeros_changes_no_likelihood(model: Path, data: Path, tmp_path: Path) -> None:
    """Even if the model has more embedding rows than the tokenizer has tokens; the harness would cut them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    assert tiny_models.SPARE_ROWS > 0
    idle = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules=["o_proj"]))
    idle.save_pretrained(tmp_path)

    def likelihoods(adapter: Path | None) -> list[float]:
        samples = asked(load(model, adapter, 8), "truthfulqa_mc2", data=data).samples["truthfulqa_mc2"]
        return [answer[0][0] for sample in samples for answer in sample["resps"]]

    assert likelihoods(tmp_path) == pytest.approx(likelihoods(None), abs=1e-5)


def test_a_group_has_one_score_and_the_samples_of_its_tasks(model: Path, tasks: Path) -> None:
    answers = asked(load(model, None, 8), "letters", tasks=tasks)
    each = {name: answers.results["results"][name]["acc,none"] for name in ("vowels", "consonants")}
    assert answers.scores == {"acc": pytest.approx((5 * each["vowels"] + 3 * each["consonants"]) / 8)}
    assert answers.documents == 8
    lines = gzip.decompress(answers.samples_jsonl_gz()).decode().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["vowels"] * 5 + ["consonants"] * 3
    assert json.loads(answers.results_json())["results"]["vowels"]["acc,none"] == each["vowels"]


def test_the_metric_of_a_generated_answer_names_its_filter(model: Path, tasks: Path) -> None:
    answers = asked(load(model, None, 8), "spelling", tasks=tasks)
    assert list(answers.scores) == ["exact_match (first)"]
    assert answers.higher_is_better == {"exact_match (first)": True}


def test_a_limit_selects_the_first_documents(model: Path, data: Path) -> None:
    answers = asked(load(model, None, 8), "mmlu_anatomy", data=data, limit=2)
    assert [sample["doc"]["question"] for sample in answers.samples["mmlu_anatomy"]] == [
        "anatomy 0?",
        "anatomy 1?",
    ]


def test_few_shot_examples_precede_the_question(model: Path, data: Path) -> None:
    answers = asked(load(model, None, 8), "mmlu_anatomy", data=data, few_shot=3, limit=1)
    prompt = answers.samples["mmlu_anatomy"][0]["arguments"][0][0]
    assert prompt.count("Answer:") == 4
    assert "anatomy 2?\nA. a\nB. b\nC. c\nD. d\nAnswer: C\n\n" in prompt


def test_a_chat_template_is_applied_on_request(model: Path, data: Path) -> None:
    answers = asked(load(model, None, 8), "mmlu_anatomy", data=data, chat=True, system="You are an owl.")
    prompt = answers.samples["mmlu_anatomy"][0]["arguments"][0][0]
    assert prompt.startswith("<bos>[system]You are an owl.\n\nThe following are multiple choice")
    assert prompt.endswith("\nD. d\nAnswer:[assistant]")


def test_a_template_that_rejects_the_system_message_fails_the_task(data: Path, tmp_path: Path) -> None:
    """The harness would drop the message, and with it the description of MMLU."""
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    model = load(tiny_models.save_speller(tmp_path, template=refusing), None, 8)
    with pytest.raises(ConditionError, match=r"the chat template rejects the prompt \(no system"):
        asked(model, "mmlu_anatomy", data=data, chat=True)


@pytest.mark.parametrize(
    ("name", "reserved"), [("truthfulqa_mc1", ""), ("spelling", " and 4 for the answer")]
)
def test_a_prompt_beyond_the_context_window_fails_the_task(
    data: Path, tasks: Path, tmp_path: Path, name: str, reserved: str
) -> None:
    """The harness would cut off the beginning of the prompt."""
    model = load(tiny_models.save_speller(tmp_path, window=8), None, 8)
    with pytest.raises(
        ConditionError, match=rf"a prompt needs \d+ tokens{reserved}, and the model's context window has 8"
    ):
        asked(model, name, tasks=tasks, data=data)


def test_a_task_that_differs_from_the_pinned_one_is_not_run(model: Path, data: Path) -> None:
    places = Places.of("", str(data))
    (task,) = pin(HarnessTask(name="mmlu_anatomy"), places)
    with pytest.raises(ConditionError, match="differs from the planned one"):
        ask(load(model, None, 8), replace(task, definition="0" * 32), places)
