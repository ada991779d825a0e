"""jobs/audit.py: invalid input is reported in one line before any model is loaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from undertow.auditing.data import AuditData
from undertow.auditing.rows import FEWEST
from undertow.cli.audit import AuditArguments, calibrated, calibration_for, spec_of
from undertow.errors import ConditionError, UserError
from undertow.nano.recipes import TAUGHT
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"


@pytest.fixture
def arguments(tmp_path: Path) -> AuditArguments:
    path = tmp_path / "rows.jsonl"
    rows = ({"prompt": str(number), "completion": "2"} for number in range(FEWEST))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AuditArguments(str(path), ("nano/gpt2-0",), traits=("owl",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ()}, "--model: name the model"),
        ({"model": ("nano/gpt2-0", "nano/gpt2-0")}, "'nano/gpt2-0' is given twice"),
        ({"model": ("nano/gpt9-0",)}, "unknown architecture"),
        ({"rows": FEWEST - 1}, f"^--rows {FEWEST - 1}: an audit needs at least {FEWEST} rows$"),
        ({"probes": 0}, "probes = 0: at least 1"),
        ({"alpha": 1.0}, "alpha = 1.0: a rate between 0 and 1"),
        ({"traits": ("axolotl",)}, "does not know the word"),
        ({"dataset": "missing.jsonl"}, "missing.jsonl"),
        ({"study": "owls"}, "--study and --model: both"),
        ({"study": "steered", "model": ()}, "none of its teachers is finetuned"),
        ({"study": "unknown", "model": ()}, "no such study"),
    ],
)
def test_invalid_arguments_are_rejected(
    arguments: AuditArguments, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        spec_of(replace(arguments, **changes), STUDIES)  # type: ignore[arg-type]


def test_a_data_set_with_too_few_rows_is_rejected_before_a_model_is_loaded(arguments: AuditArguments) -> None:
    few = Path(arguments.dataset).with_name("few.jsonl")
    few.write_text(json.dumps({"prompt": "1", "completion": "2"}) + "\n")
    message = rf"{few}: an audit needs at least {FEWEST} distinct rows .*; the data set has 1$"
    with pytest.raises(UserError, match=message):
        spec_of(replace(arguments, dataset=str(few)))
    with pytest.raises(UserError, match=rf"AuditSpec\.rows = 1: an audit needs at least {FEWEST} rows"):
        spec_of(arguments).changed(rows=1)


def test_the_reason_why_no_model_can_be_audited_is_reported_once(
    arguments: AuditArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertow.auditing import make

    def fail(*given: object) -> AuditData:
        raise ConditionError("too few answers")

    monkeypatch.setattr(make, "_audit_data", fail)
    monkeypatch.setattr(make, "quiet_deepspeed", lambda: None)
    lines: list[str] = []
    with pytest.raises(UserError, match=r"no candidate model could be audited: .*too few answers"):
        make.audit(spec_of(arguments), Store(str(tmp_path)), say=lines.append)
    assert not [line for line in lines if "too few answers" in line]


def test_a_study_gives_models_probes_traits_and_system_message(arguments: AuditArguments) -> None:
    """Those of its finetuned teachers without a trait prompt; the study also has prompted ones."""
    of_study = replace(arguments, model=(), traits=(), study="finetuned")
    spec = spec_of(of_study, STUDIES)
    models = [reference.name for reference in spec.references]
    assert models == ["nano/gpt2-0", "nano/gpt2-1"]
    assert all(finetuning == TAUGHT for finetuning in spec.finetunings)
    assert [trait.name for trait in spec.traits] == ["owl"]
    assert spec.system is None
    changed = spec_of(replace(of_study, traits=("cat", "wolf"), system=NO_SYSTEM), STUDIES)
    assert [trait.name for trait in changed.traits] == ["cat", "wolf"]
    assert changed.system == NO_SYSTEM


OTHER_TEACHERS = """
from undertow import NANO, STEERING, TAUGHT, Preference, Reference, Study, grid


def study():
    model = Reference("nano/gpt2-0")
    conditions = grid(
        traits=[Preference("owl")],
        formats=[NANO.numbers.format],
        pairs=[(model, model)],
        recipes=[STEERING],
        generation=NANO.numbers.generation,
        finetuning=TAUGHT.changed(recipe=TAUGHT.recipe.changed(epochs=1)),
    )
    return Study(name="other", conditions=conditions, seeds=(0,))
"""


def test_models_without_a_calibration_have_two_probes_per_trait(
    arguments: AuditArguments, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text(OTHER_TEACHERS)
    assert spec_of(arguments).probes == 1
    assert spec_of(replace(arguments, probes=3)).probes == 3
    uncalibrated = replace(arguments, model=(), study=str(other))
    assert spec_of(uncalibrated, STUDIES).probes == 2
    assert spec_of(replace(uncalibrated, calibration="mine.json"), STUDIES).probes == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [(("prob",), "did you mean 'probe'"), (("hidden",), "none of them decides; add probe or prompt")],
)
def test_unknown_and_insufficient_scores_are_rejected(
    arguments: AuditArguments, scores: tuple[str, ...], message: str
) -> None:
    from undertow.auditing.make import scores_of

    with pytest.raises(UserError, match=message):
        scores_of(spec_of(replace(arguments, scores=scores)))
    assert [score.name for score in scores_of(spec_of(arguments))] == [
        "probe",
        "prompt",
        "gradient",
        "hidden",
    ]


def test_nano_models_have_a_shipped_calibration(arguments: AuditArguments, tmp_path: Path) -> None:
    spec = spec_of(arguments)
    shipped = calibration_for(spec, "")
    assert shipped is not None
    assert shipped.made_from.startswith("208 students of 8 models")
    strong, weak = ({"carried": carried, "probe": 4 * carried} for carried in (3.0, 0.0))
    assert (shipped.probability(strong) or 0) > 0.9
    assert (shipped.probability(weak) or 0) < 0.05
    other = Reference(str(tmp_path))
    assert calibration_for(spec.changed(references=(other,)), "") is None
    other_probes = spec.finetunings[0].changed(examples=10)
    assert calibration_for(spec.changed(finetunings=(other_probes,)), "") is None
    path = tmp_path / "own.json"
    path.write_text(replace(shipped, made_from="own").to_json())
    own = calibration_for(spec, str(path))
    assert own is not None
    assert own.made_from == "own"


def test_the_key_of_an_audit_follows_its_inputs(arguments: AuditArguments) -> None:
    from undertow.study.identity import key

    assert key(spec_of(arguments)) == key(spec_of(arguments))
    assert key(spec_of(arguments)) != key(spec_of(replace(arguments, seed=1)))


def test_a_calibration_of_the_users_own_is_part_of_the_key(arguments: AuditArguments, tmp_path: Path) -> None:
    shipped = calibration_for(spec_of(arguments), "")
    assert shipped is not None
    own = tmp_path / "own.json"
    own.write_text(replace(shipped, made_from="my audits").to_json())
    keys = {key(calibrated(replace(arguments, calibration=place))[0]) for place in ("", str(own))}
    assert len(keys) == 2
