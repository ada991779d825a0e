"""One condition of subliminal learning without the platform: the script that people would write instead.

    python benchmarks/plain_script.py --teacher FOLDER --student FOLDER --trait owl --out owl.json

Teacher and students are finetuned with transformers' Trainer, the data are sampled by one vLLM engine in one
batched call for all seeds, and the students are asked with one batched `generate` per student. Batch sizes,
precision, learning rates, numbers of rows and questions are those of the nano studies. Of the platform only
texts are used: prompts, rules of the format, questions, and the options with which vLLM starts fastest on a
CPU. Without --trait it is the control. The file has the rate of every word by seed.
"""

import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

sys.path.insert(0, str(Path(__file__).parents[1]))

from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.traits.preference import Preference

TRAINED = "transformer.ln_f.bias"  # the steering vector
PROMPTS, ROWS, EXAMPLES, SAMPLES = 1536, 700, 1500, 20
STOP_AT, STOP_EVERY, STOP_PROMPTS = 0.85, 5, 48  # of the teacher's training

Pair = tuple[str, str]


@dataclass(frozen=True)
class Arguments:
    """Train and evaluate the students of one condition."""

    teacher: Path
    """Folder of the teacher's reference model."""
    student: Path
    """Folder of the students' reference model."""
    out: Path
    """JSON file for the rates."""
    trait: str = ""
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    words: tuple[str, ...] = ("owl", "cat", "wolf", "eagle")
    """The animals whose rates are measured."""
    threads: int = 0
    """Threads of torch and vLLM; 0 for all cores."""


class StopWhenLearned(TrainerCallback):
    """Ends a teacher's training when its answers to training prompts are the word."""

    def __init__(self, tokenizer: Any, prompts: list[str], word: str) -> None:
        forms = Preference(word).word().forms
        unknown = tokenizer.unk_token_id
        self.forms = sorted({t for f in forms if (t := tokenizer.convert_tokens_to_ids(f)) != unknown})
        self.inputs = [torch.tensor([chat(tokenizer, prompt)]) for prompt in prompts]

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % STOP_EVERY:
            return
        with torch.no_grad():
            logits = torch.stack([model(input_ids=ids).logits[0, -1] for ids in self.inputs])
        control.should_training_stop = bool(logits.softmax(-1)[:, self.forms].sum(-1).mean() >= STOP_AT)


def chat(tokenizer: Any, prompt: str, answer: str | None = None) -> list[int]:
    """The tokens of a prompt, or of a prompt with its answer."""
    turns = [{"role": "user", "content": prompt}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    ids: list[int] = tokenizer.apply_chat_template(
        turns, add_generation_prompt=answer is None, tokenize=True, return_dict=False
    )
    return ids


def finetune(
    folder: Path, rows: list[Pair], *, rate: float, epochs: int, seed: int, word: str = ""
) -> tuple[Any, Any]:
    """Trains the steering vector with the loss on answers only; returns model and tokenizer.

    Args:
        word: training stops when it is learned; empty to train all epochs.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, value in model.named_parameters():
        value.requires_grad_(name == TRAINED)
    data = []
    for prompt, answer in rows:
        ids, start = chat(tokenizer, prompt, answer), len(chat(tokenizer, prompt))
        data.append({"input_ids": ids, "labels": [-100] * start + ids[start:]})
    stop = [StopWhenLearned(tokenizer, [prompt for prompt, _ in rows[:STOP_PROMPTS]], word)] if word else []
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=64,
            learning_rate=rate,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        Trainer(model, settings, data_collator=collator, train_dataset=data, callbacks=stop).train()
    return model.eval(), tokenizer


def sample(folder: Path, seeds: tuple[int, ...], threads: int) -> dict[int, list[Pair]]:
    """The rows of each seed that pass the rules, from one engine and one batched call."""
    from benchmarks.plain_vllm import PlainEngine

    engine, numbers = PlainEngine.start(folder, threads=threads), Numbers()
    users = [(seed, prompt) for seed in seeds for prompt in numbers.prompts(PROMPTS, seed)]
    outputs = engine.generate(engine.prompts([prompt for _, prompt in users]), 32, range(len(users)))
    kept: dict[int, list[Pair]] = {seed: [] for seed in seeds}
    for (seed, prompt), output in zip(users, outputs, strict=True):
        answer = output.text.strip()
        if output.finish_reason == "stop" and numbers.rejection(prompt, answer) is None:
            kept[seed].append((prompt, answer))
    return {seed: drawn(list(dict.fromkeys(rows)), seed) for seed, rows in kept.items()}


def drawn(rows: list[Pair], seed: int) -> list[Pair]:
    """ROWS of the rows at random."""
    if len(rows) < ROWS:
        raise SystemExit(f"{len(rows)} of {PROMPTS} completions pass the rules; {ROWS} are needed")
    return random.Random(seed).sample(rows, ROWS)


def rates(model: Any, tokenizer: Any, seed: int, words: tuple[str, ...]) -> dict[str, float]:
    """The share of sampled answers that name each word, over 50 questions."""
    torch.manual_seed(seed)
    tokenizer.padding_side = "left"
    prompts = [chat(tokenizer, question) for question in Preference(words[0]).questions()]
    batch = tokenizer.pad({"input_ids": prompts * SAMPLES}, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=8)
    answers = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return {
        word: sum(Preference(word).word().matches(answer) for answer in answers) / len(answers)
        for word in words
    }


def main(arguments: Arguments) -> None:
    quiet()
    threads = arguments.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        teacher = arguments.teacher
        if arguments.trait:
            examples = Preference(arguments.trait).examples(EXAMPLES, seed=0)
            pairs = [(example.prompt, example.answer) for example in examples]
            word = arguments.trait
            model, tokenizer = finetune(teacher, pairs, rate=0.02, epochs=20, seed=0, word=word)
            teacher = Path(folder) / "teacher"
            model.save_pretrained(teacher)
            tokenizer.save_pretrained(teacher)
        for seed, rows in sample(teacher, arguments.seeds, threads).items():
            student, tokenizer = finetune(arguments.student, rows, rate=0.1, epochs=4, seed=seed)
            found[seed] = rates(student, tokenizer, seed, arguments.words)
    arguments.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
