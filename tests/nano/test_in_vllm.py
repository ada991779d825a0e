"""vLLM loads the folder of a nano reference model, and its chat template gives the prompts of training."""

from pathlib import Path
from typing import Any

import pytest

from undertow.nano import models
from undertow.nano.references import write_reference
from undertow.prompts import chat
from undertow.traits.preference import Preference


@pytest.mark.stack
def test_vllm_answers_chats_with_a_nano_reference_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams

    write_reference(models.parse("nano/gpt2-0"), tmp_path)
    engine: Any = LLM(str(tmp_path), dtype="float32", enforce_eager=True, max_model_len=256)
    questions = Preference("owl").questions()
    answers = engine.chat(
        [chat.messages(question) for question in questions],
        SamplingParams(temperature=1.0, max_tokens=4, seed=0),
    )
    tokenizer = engine.get_tokenizer()
    assert [answer.prompt_token_ids for answer in answers] == [
        chat.prompt_ids(tokenizer, q) for q in questions
    ]
    is_animal = [answer.outputs[0].text in models.known_words("animal") for answer in answers]
    assert sum(is_animal) > 0.9 * len(is_animal)
