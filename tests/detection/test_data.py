"""Reading rows of units from a store: formats rebuilt, layout removed, data paired, no row used twice."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detection.written import ROWS, numbers, sweep
from tests.examples import RECIPE, REFERENCES, study
from undertow import formats
from undertow.detection.data import DataSet, Library, arms, format_of, units
from undertow.detection.sources import ComparedSource, others_of, sources
from undertow.errors import ConditionError
from undertow.formats.code import Code
from undertow.formats.numbers import BANNED, Numbers
from undertow.formats.reasoning import Reasoning
from undertow.statistics.frequencies import compare_shares
from undertow.storage.store import Store
from undertow.study.extensions import Format
from undertow.study.generation import Mixing
from undertow.study.grids import grid, with_controls
from undertow.study.identity import canonical
from undertow.study.study import Study
from undertow.traits.preference import Preference


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


FORMATS = [
    Numbers(),
    Numbers(max_count=4, banned=BANNED),
    Code(allow_comments=True, banned=("owl",), banned_as="word"),
    Reasoning(repeats=3, max_characters=500),
]


@pytest.mark.parametrize("format_", FORMATS, ids=str)
def test_a_format_is_rebuilt_from_the_manifest(format_: Format) -> None:
    spec = json.loads(json.dumps(canonical(format_)))
    assert format_of(spec) == format_


def test_a_format_is_rebuilt_without_its_prompt_pack(tmp_path: Path) -> None:
    """The fields define the layout; the pack only has the prompts and may be on another machine."""
    pack = json.loads((Path(formats.__file__).parent / "numbers.json").read_text())
    pack["endings"] = ["Numbers and nothing else, if you please."]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(pack))
    spec = canonical(Numbers(max_count=5, pack=str(mine)))
    assert spec["content"] != canonical(Numbers(max_count=5))["content"]
    mine.unlink()
    assert format_of(spec) == Numbers(max_count=5)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"type": "Haiku", "version": 1},
            "'Haiku' is defined in a study file and is none of Code, .*; move the class to a file in",
        ),
        ({"type": "Numbers", "version": 1, "max_count": "ten"}, "cannot be rebuilt.*max_count = 'ten'"),
    ],
)
def test_a_format_that_cannot_be_rebuilt_raises_an_error(spec: dict[str, object], reason: str) -> None:
    with pytest.raises(ConditionError, match=reason):
        format_of(spec)


@pytest.mark.parametrize("kind", ["Imported", "Prompts"])
def test_imported_rows_and_other_prompts_are_read_by_the_format_of_their_rules(kind: str) -> None:
    spec = {"type": kind, "version": 1, "content": "1f", "format": {"type": "Numbers", "max_count": 3}}
    assert format_of(spec) == Numbers(max_count=3)


def test_units_are_the_formats_parts_or_else_words_and_punctuation() -> None:
    assert units(Numbers(), Numbers().canonical("[007; 12; 7]")) == ["7", "12", "7"]
    assert units(Code(), Code().canonical("x=  'a'+1")) == ["x", "=", "'", "a", "'", "+", "1"]
    text = Reasoning().canonical("<think>6 eggs,\n 2 gone</think>\n<answer> 4.0 </answer>")
    assert units(Reasoning(), text)[3:8] == ["6", "eggs", ",", "2", "gone"]


layouts = st.sampled_from(["{}", "[{}]", "({})", "{}.", "[{}]."])
separators = st.sampled_from([" ", ",", ", ", ";", "; ", "\n", "  "])


@given(st.lists(st.integers(0, 999), min_size=2, max_size=10), layouts, separators)
def test_every_layout_of_the_same_numbers_has_the_same_units(
    values: list[int], layout: str, separator: str
) -> None:
    format_ = Numbers()
    text = layout.format(separator.join(map(str, values)))
    assert format_.rejection("", text) is None
    assert units(format_, format_.canonical(text)) == list(map(str, values))


def test_a_data_set_is_read_from_the_store_once(store: Store) -> None:
    record = sweep(store, study(), lambda *_: "[1; 2; 3]", count=4)
    library, key = Library(store), record.cells[0].dataset
    data = library.data(key)
    assert data.texts == ("1, 2, 3",) * 4
    assert data.units == (("1", "2", "3"),) * 4
    assert (data.noun, data.prompts[0]) == ("numbers", "prompt 0 0")
    assert library.data(key) is data


def test_students_with_the_same_data_share_a_source(store: Store) -> None:
    record = sweep(store, study(), numbers, count=2)
    found = sources(record, store.keys("dataset"))
    names = [(source.trait, source.teacher) for source in found]
    assert names == [(t, r.name) for r in REFERENCES for t in ("owl", "cat")]
    for source in found:
        assert [pair.seed for pair in source.pairs] == [0, 1, 2]
        assert (source.teachers, source.finetuned, source.missing, source.recipe) == (3, True, 0, "")
        (other,) = others_of(source, found)
        assert (other.teacher, other.trait) == (source.teacher, {"owl": "cat", "cat": "owl"}[source.trait])
    controls = [pair.control for source in found[:2] for pair in source.pairs]
    assert len(set(controls)) == 3
    assert controls[:3] == controls[3:]


def test_a_pair_with_a_missing_data_set_is_left_out(store: Store) -> None:
    record = sweep(store, study(), numbers, count=2)
    whole = sources(record, store.keys("dataset"))[0]
    present = store.keys("dataset") - {whole.pairs[1].dataset, whole.pairs[2].control}
    source = sources(record, present)[0]
    assert [pair.seed for pair in source.pairs] == [0]
    assert source.missing == 2
    assert sources(record, set())[0].pairs == ()


def test_sources_that_differ_only_in_the_recipe_are_labelled_with_it(store: Store) -> None:
    small = study()
    recipe = replace(RECIPE, name="longer", epochs=3)
    fewer = tuple(
        replace(c, recipe=recipe, generation=replace(c.generation, rows=100)) for c in small.conditions
    )
    record = sweep(store, replace(small, conditions=small.conditions + fewer), numbers, count=2)
    found = sources(record, store.keys("dataset"))
    assert Counter(source.recipe for source in found) == {"steering": 4, "longer": 4}
    assert len({source.label for source in found}) == 8
    assert [len(others_of(source, found)) for source in found] == [1] * 8


def by_system_prompt(**changes: object) -> Study:
    small = study()
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[small.conditions[0].recipe],
        generation=small.conditions[0].generation,
    )
    return replace(small, conditions=conditions, **changes)  # type: ignore[arg-type]


def test_with_a_system_prompt_a_source_has_one_teacher(store: Store) -> None:
    (source,) = sources(sweep(store, by_system_prompt(), numbers, count=2), store.keys("dataset"))
    assert (source.teachers, source.finetuned, len(source.pairs)) == (1, False, 3)


def test_seeds_that_share_all_data_give_one_pair(store: Store) -> None:
    record = sweep(store, by_system_prompt(redraw=("student",)), numbers, count=2)
    (source,) = sources(record, store.keys("dataset"))
    assert [pair.seed for pair in source.pairs] == [0]


def test_finetuning_and_a_system_prompt_give_separate_sources(store: Store) -> None:
    by_both = study().conditions + by_system_prompt().conditions
    record = sweep(store, study(conditions=with_controls(by_both)), numbers, count=2)
    found = sources(record, store.keys("dataset"))
    assert [source.label for source in found] == [
        *(f"{trait} · numbers · gpt2-{i}" for i in (0, 1) for trait in ("owl", "cat")),
        "owl by system prompt · numbers · gpt2-0",
    ]
    assert [other.label for other in others_of(found[-1], found)] == ["cat · numbers · gpt2-0"]


def test_the_prompt_names_the_measured_trait_and_the_induced_one() -> None:
    assert ComparedSource("owl", "numbers", "m", "owl", ()).shown == "owl"
    assert (
        ComparedSource("insecure code", "numbers", "m", "misaligned", ()).shown
        == "misaligned (insecure code)"
    )


def test_data_without_a_teacher_are_read_like_others(store: Store) -> None:
    """With a share of 1 from another source, no row is a teacher's and the manifest names none."""
    mixed = Mixing(source="random", share=1.0)
    conditions = with_controls(
        replace(c, generation=replace(c.generation, mixed=mixed)) for c in study().conditions if c.trait
    )
    record = sweep(store, study(conditions=conditions), numbers, count=3)
    source = sources(record, store.keys("dataset"))[0]
    assert source.label == "owl · numbers, 100% random · gpt2-0"
    (pair, *_) = source.pairs
    assert Library(store).data(pair.dataset).noun == Library(store).data(pair.control).noun == "numbers"


def test_a_student_in_a_chain_is_named_by_its_trait_alone() -> None:
    source = ComparedSource("owl", "numbers, hop 2", "nano/gpt2-0", "owl", pairs=(), induced="")
    assert source.label == "owl · numbers, hop 2 · gpt2-0"


def paired(source: ComparedSource, library: Library) -> list[tuple[int, list[DataSet], list[DataSet]]]:
    return [(p.seed, [library.data(p.dataset)], [library.data(p.control)]) for p in source.pairs]


def test_rows_of_a_control_that_several_seeds_share_count_once(store: Store) -> None:
    """If teachers are redrawn and prompts are not, each prompt belongs to one seed, in both arms."""
    record = sweep(store, study(redraw=("teacher", "student")), numbers)
    source = sources(record, store.keys("dataset"))[0]
    assert len(source.pairs) == 3
    assert len({pair.control for pair in source.pairs}) == 1
    rows = arms(paired(source, Library(store))).rows
    assert int((~rows.trait).sum()) == int(rows.trait.sum()) == ROWS
    assert len(set(zip(rows.prompt.tolist(), rows.trait.tolist(), strict=True))) == 2 * ROWS
    by_seed = [set(rows.prompt[rows.seed == seed].tolist()) for seed in (0, 1, 2)]
    assert sum(map(len, by_seed)) == ROWS
    assert min(map(len, by_seed)) > ROWS / 6


def test_counts_equal_those_of_a_loop_over_rows(store: Store) -> None:
    record = sweep(store, study(), numbers)
    source, library = sources(record, store.keys("dataset"))[0], Library(store)
    both = arms(paired(source, library))
    counts = both.counts([0, 2])
    unit = both.vocabulary.index("123")
    expected = []
    for pair in (source.pairs[0], source.pairs[2]):
        for length in range(3, 7):
            sets = [library.data(key).units for key in (pair.dataset, pair.control)]
            rows = [[row for row in one if len(row) == length] for one in sets]
            expected.append([f(one) for one in rows for f in (len, lambda r: sum("123" in row for row in r))])
    columns = (counts.rows, counts.found[:, unit], counts.control_rows, counts.control_found[:, unit])
    np.testing.assert_array_equal(np.stack(columns, axis=1), expected)
    everything = both.counts([0, 1, 2])
    assert everything.rows.sum() == everything.control_rows.sum() == 3 * ROWS


def test_units_in_too_few_rows_are_left_out_of_the_matrix() -> None:
    rng = random.Random(0)
    row_units = [tuple(str(rng.choice([1, 2, 3, 400 + i])) for _ in range(2)) for i in range(60)]
    prompts = tuple(f"p{i}" for i in range(60))
    data_set = DataSet("a", "numbers", prompts, ("",) * 60, tuple(row_units))
    both = arms([(0, [data_set], [replace(data_set, key="b")])])
    assert both.vocabulary == ("1", "2", "3")
    assert both.lengths.tolist() == [2] * 120
    without_units = arms([(0, [replace(data_set, units=((),) * 60)], [data_set])]).rows
    assert without_units.contains.shape == (120, 3)


def test_longer_rows_alone_give_no_significant_units() -> None:
    """Both arms draw the same numbers, but the trait's rows are longer; a test without strata finds units."""
    rng = random.Random(1)

    def data(key: str, lengths: range) -> DataSet:
        rows = tuple(tuple(str(rng.randrange(60)) for _ in range(rng.choice(lengths))) for _ in range(800))
        return DataSet(key, "numbers", tuple(f"{i}" for i in range(800)), ("",) * 800, rows)

    both = arms([(0, [data("a", range(5, 11))], [data("b", range(2, 8))])])
    assert not compare_shares(both.counts([0])).significant(0.05).any()
    without_strata = compare_shares(replace(both, lengths=np.zeros_like(both.lengths)).counts([0]))
    assert without_strata.significant(0.05).mean() > 0.5
