"""Reads data sets as rows of canonical text and of units, the input of every detection score.

The canonical text (`Format.canonical`) has no layout. Prompts ask for various separators and teachers follow
them to varying degrees, and a published detector that seemed to see the trait saw the separator. The format
is rebuilt from the data set's manifest by its class name; its prompt pack is not needed and may no longer
exist. Data of a format that a study file defines cannot be read this way and are left out with a message.

Units are the format's own parts where it defines them (each number of a list), else words and punctuation
marks.
"""

import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from undertow.errors import ConditionError, SpecError
from undertow.formats import families
from undertow.formats.wrapped import Wrapped, rules_of
from undertow.statistics.frequencies import MIN_DEVIATION, Counts, length_strata
from undertow.statistics.separation import Flags, Indices, UnitRows
from undertow.statistics.ttests import Array
from undertow.storage.manifest import TRAINING_ROWS, Address
from undertow.storage.store import Store
from undertow.study.extensions import Format
from undertow.study.identity import seed_for, source_of

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class DataSet:
    """The rows of a data set: prompts, canonical texts and the units in them, all in the same order.

    Attributes:
        noun: the name of the units, in the plural: "numbers", "words".
    """

    key: str
    noun: str
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    units: tuple[tuple[str, ...], ...]


class Library:
    """Reads the data sets of a store and caches them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, DataSet] = {}

    def data(self, key: str) -> DataSet:
        """The data set with this key. Raises ConditionError if this package does not define its format."""
        if key not in self._read:
            self._read[key] = self._load(key)
        return self._read[key]

    def _load(self, key: str) -> DataSet:
        import pyarrow.parquet as pq

        address = Address("dataset", key)
        format_ = format_of(source_of(self.store.manifest(address).spec)["format"])
        content = self.store.content(address, TRAINING_ROWS)
        table = pq.read_table(io.BytesIO(content), columns=["prompt", "completion"])
        texts = tuple(map(format_.canonical, table["completion"].to_pylist()))
        return DataSet(
            key=key,
            noun=format_.name if _has_parts(format_) else "words",
            prompts=tuple(table["prompt"].to_pylist()),
            texts=texts,
            units=tuple(tuple(units(format_, text)) for text in texts),
        )


def format_of(spec: Mapping[str, Any]) -> Format:
    """Rebuilds the format that a manifest describes.

    Of the user's prompts and of imported data, it is the format whose rules apply to the completions.

    Raises ConditionError if this package does not define the format, or its class rejects the fields.
    """
    classes = {cls.__name__: cls for cls in families().values() if not issubclass(cls, Wrapped)}
    spec = rules_of(spec)
    name = spec["type"]
    if name not in classes:
        raise ConditionError(
            f"its format {name!r} is defined in a study file and is none of {', '.join(sorted(classes))}: "
            "its layout cannot be removed, and the scores would detect the layout instead of the trait; move "
            "the class to a file in platform/undertow/formats, or audit the rows (jobs/audit.py)"
        )
    known = {field.name for field in fields(classes[name])}
    try:
        return classes[name](**{field: value for field, value in spec.items() if field in known})
    except SpecError as error:
        raise ConditionError(f"its format {name!r} cannot be rebuilt from the manifest ({error})") from None


def units(format_: Format, canonical: str) -> list[str]:
    """The units of a canonical text, in order."""
    found = format_.parts(canonical) if _has_parts(format_) else _WORD.findall(canonical)
    return list(map(sys.intern, found))  # a study has millions of units and few distinct ones


def _has_parts(format_: Format) -> bool:
    return format_.implements("parts")


@dataclass(frozen=True, eq=False)
class Arms:
    """The rows of two arms, trait and control, over several seeds.

    Attributes:
        rows: which units each row contains, without units in too few rows to be tested.
        vocabulary: the units, in the order of the matrix columns of `rows`.
        lengths: (rows,), the number of units of each row, repetitions included.
    """

    rows: UnitRows
    vocabulary: tuple[str, ...]
    lengths: Indices

    def counts(self, seeds: Iterable[int]) -> Counts:
        """The number of rows that contain each unit, by stratum: the rows of one seed and one length."""
        chosen = np.isin(self.rows.seed, list(seeds))
        strata = self.rows.seed * (1 + self.lengths.max(initial=0)) + length_strata(self.lengths)
        distinct, strata = np.unique(strata[chosen], return_inverse=True)
        rows = self.rows.where(chosen)
        (ours, found), (theirs, control_found) = (
            _by_stratum(rows.contains, strata, len(distinct), arm) for arm in (rows.trait, ~rows.trait)
        )
        return Counts(ours, theirs, found, control_found)


Pairs = Sequence[tuple[int, Sequence[DataSet], Sequence[DataSet]]]


def arms(pairs: Pairs) -> Arms:
    """Builds the rows of several (seed, data sets of the trait, data sets of the control).

    If seeds share a control data set (in a study that redraws teachers but not prompts), each prompt is
    assigned to one of these seeds: rows that were counted several times would make p-values too small.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    table = [row for number in range(len(pairs)) for row in _rows(pairs, number)]
    seeds, trait, prompts, unit_lists = zip(*table, strict=True)
    in_rows = Counter(unit for units_of_row in unit_lists for unit in set(units_of_row))
    vocabulary = sorted(unit for unit, count in in_rows.items() if count >= 2 * MIN_DEVIATION)
    contains = csr_matrix((len(unit_lists), 0))
    if vocabulary:
        contains = CountVectorizer(analyzer=list, vocabulary=vocabulary, binary=True).transform(unit_lists)
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    numbered = np.array([numbers[prompt] for prompt in prompts])
    rows = UnitRows(contains.astype(float), np.array(trait), np.array(seeds), numbered)
    return Arms(rows, tuple(vocabulary), np.array([len(units_of_row) for units_of_row in unit_lists]))


def _rows(pairs: Pairs, number: int) -> Iterator[tuple[int, bool, str, tuple[str, ...]]]:
    """Yields (seed, whether the row has the trait, prompt, units) for each row of one pair."""
    seed, trait_sets, control_sets = pairs[number]
    sharing = [i for i, (_, _, others) in enumerate(pairs) if others[0].key == control_sets[0].key]
    for is_trait, data_sets in ((True, trait_sets), (False, control_sets)):
        for data_set in data_sets:
            for prompt, row_units in zip(data_set.prompts, data_set.units, strict=True):
                # "deal" is part of the seed: a different word would assign the prompts differently.
                if len(sharing) == 1 or seed_for("deal", prompt) % len(sharing) == sharing.index(number):
                    yield seed, is_trait, prompt, row_units


def _by_stratum(contains: Any, strata: Indices, count: int, arm: Flags) -> tuple[Array, Array]:
    """Counts an arm's rows, (strata,), and its rows that contain each unit, (strata, units)."""
    from scipy.sparse import csr_matrix

    places = np.flatnonzero(arm)
    within = csr_matrix((np.ones(len(places)), (strata[places], places)), shape=(count, len(arm)))
    return np.asarray(within.sum(axis=1)).ravel(), np.asarray((within @ contains).todense())
