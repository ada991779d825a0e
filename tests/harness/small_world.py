"""Small data sets in the form of TruthfulQA and MMLU under their Hub names, and a user's own tasks."""

import json
from pathlib import Path
from typing import Any

QUESTIONS = [
    ("What do owls eat?", ["Mice.", "Tea.", "Numbers."], ["Mice.", "Small animals.", "Tea.", "Numbers."], 2),
    ("Where is the moon?", ["Above.", "Below."], ["Above.", "Below.", "In a box."], 1),
    ("Who counts to ten?", ["Many do.", "Nobody.", "Kings."], ["Many do.", "Nobody.", "Kings."], 1),
    ("When is noon?", ["At twelve.", "At six."], ["At twelve.", "Midday.", "At six."], 2),
]
SUBJECTS = {"anatomy": 6, "virology": 4}


def save_data(folder: Path, first_answer: str = "Mice.") -> Path:
    """Writes truthfulqa/truthful_qa and cais/mmlu with a few documents, in the layout of the Hub."""
    rows: list[dict[str, Any]] = [
        {
            "question": question,
            "mc1_targets": {"choices": one, "labels": [1] + [0] * (len(one) - 1)},
            "mc2_targets": {"choices": several, "labels": [1] * true + [0] * (len(several) - true)},
        }
        for question, one, several, true in QUESTIONS
    ]
    rows[0]["mc1_targets"]["choices"] = [first_answer, *QUESTIONS[0][1][1:]]
    _save(folder / "truthfulqa" / "truthful_qa", {"multiple_choice": {"validation": rows}})
    _save(
        folder / "cais" / "mmlu", {s: {"test": _exam(s, n), "dev": _exam(s, 5)} for s, n in SUBJECTS.items()}
    )
    return folder


def _exam(subject: str, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{subject} {i}?", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": i % 4}
        for i in range(count)
    ]


def _save(folder: Path, configurations: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, rows in splits.items():
            path = folder / name / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            lines += [f"  - split: {split}", f"    path: {name}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


GROUP = """
group: letters
task: [vowels, consonants]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""
LOOSE = "{group: loose, task: [vowels, consonants]}"
CHOICE = """
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: PLACE/NAME.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "Is {{letter}} one?"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{answer}}"
process_results: !function scoring.right
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
SPELLING = """
task: spelling
dataset_path: json
dataset_kwargs: {data_files: {test: PLACE/vowels.jsonl}}
test_split: test
output_type: generate_until
generation_kwargs: {until: ["."], max_gen_toks: 4}
doc_to_text: "Say {{letter}}"
doc_to_target: "{{letter}}"
filter_list: [{name: first, filter: [{function: regex, regex_pattern: "(.)"}, {function: take_first}]}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
SCORING = """
def right(doc, results):
    likelihoods = [likelihood for likelihood, _ in results]
    return {"acc": float(likelihoods.index(max(likelihoods)) == doc["answer"])}
"""


def save_tasks(folder: Path) -> Path:
    """Writes two multiple-choice tasks in a group, a group of them without a score, and a generation task."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, letters in (("vowels", "aeiou"), ("consonants", "bcd")):
        rows = [{"letter": letter, "answer": i % 2} for i, letter in enumerate(letters)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(CHOICE.replace("NAME", name).replace("PLACE", str(folder)))
    (folder / "letters.yaml").write_text(GROUP)
    (folder / "loose.yaml").write_text(LOOSE)
    (folder / "spelling.yaml").write_text(SPELLING.replace("PLACE", str(folder)))
    (folder / "scoring.py").write_text(SCORING)
    return folder
