"""Rows as a detector sees them: the canonical text, and the units in it.

Canonical first (`Format.canonical`): the prompts ask for one separator or another, teachers keep to that
more or less, and a published detector that seemed to see the trait saw the separator. The format is built
again from the manifest of the data set, by the name of its class; its pack of prompts is not needed and may
be gone. Data of a format that a study file brought along cannot be read so, and are left out in words.

Units are the format's own pieces where it has any (each number of a list), else words and signs.
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
from undertow.statistics.frequencies import LEAST, Counts, length_strata
from undertow.statistics.separation import Flags, Indices, UnitRows
from undertow.statistics.ttests import Array
from undertow.storage.manifest import DATA, Address
from undertow.storage.store import Store
from undertow.study.extensions import Format
from undertow.study.identity import seed_for

ROWS = f"{DATA}/train.parquet"
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class DataSet:
    """A data set's rows, each with its prompt, its canonical text and the units in it.

    `noun`: what the units are called, several of them.
    """

    key: str
    noun: str
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    units: tuple[tuple[str, ...], ...]


class Library:
    """The data sets of a store, each read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, DataSet] = {}

    def data(self, key: str) -> DataSet:
        """Raises ConditionError where the format's class is none of this package's."""
        if key not in self._read:
            self._read[key] = self._load(key)
        return self._read[key]

    def _load(self, key: str) -> DataSet:
        import pyarrow.parquet as pq

        address = Address("dataset", key)
        format_ = format_of(self.store.manifest(address).spec["completions"]["format"])
        table = pq.read_table(io.BytesIO(self.store.content(address, ROWS)), columns=["prompt", "completion"])
        texts = tuple(map(format_.canonical, table["completion"].to_pylist()))
        return DataSet(
            key=key,
            noun=format_.name if _has_parts(format_) else "words",
            prompts=tuple(table["prompt"].to_pylist()),
            texts=texts,
            units=tuple(tuple(units(format_, text)) for text in texts),
        )


def format_of(spec: Mapping[str, Any]) -> Format:
    """The format that a manifest names. Raises ConditionError where it is none of this package's."""
    kinds = {kind.__name__: kind for kind in families().values()}
    name = spec["type"]
    if name not in kinds:
        raise ConditionError(
            f"its format {name!r} is of a study file and none of {', '.join(sorted(kinds))}: its layout "
            "cannot be taken off, and would be found in place of the trait"
        )
    known = {field.name for field in fields(kinds[name])}
    try:
        return kinds[name](**{field: value for field, value in spec.items() if field in known})
    except SpecError as error:
        raise ConditionError(f"its format {name!r} cannot be built again ({error})") from None


def units(format_: Format, canonical: str) -> list[str]:
    """The pieces of a canonical text that are counted, in order."""
    found = format_.parts(canonical) if _has_parts(format_) else _WORD.findall(canonical)
    return list(map(sys.intern, found))  # millions of them, few different


def _has_parts(format_: Format) -> bool:
    return type(format_).parts is not Format.parts


@dataclass(frozen=True, eq=False)
class Arms:
    """The rows of two arms over several seeds.

    Attributes:
        rows: which units each contains; units in fewer rows than could ever be tested are left out.
        vocabulary: the units, in the order of the matrix.
        lengths: (rows,), how many units a row has, each time it says one.
    """

    rows: UnitRows
    vocabulary: tuple[str, ...]
    lengths: Indices

    def counts(self, seeds: Iterable[int]) -> Counts:
        """How many rows contain each unit, in every seed's rows of one length."""
        chosen = np.isin(self.rows.seed, list(seeds))
        strata = self.rows.seed * (1 + self.lengths.max(initial=0)) + length_strata(self.lengths)
        each, strata = np.unique(strata[chosen], return_inverse=True)
        rows = self.rows.where(chosen)
        (ours, found), (theirs, control_found) = (
            _by_stratum(rows.contains, strata, len(each), arm) for arm in (rows.trait, ~rows.trait)
        )
        return Counts(ours, theirs, found, control_found)


Pairs = Sequence[tuple[int, Sequence[DataSet], Sequence[DataSet]]]


def arms(pairs: Pairs) -> Arms:
    """The rows of each (seed, data of the trait, data of the control).

    Where seeds share a control data set (a study that draws teachers anew and prompts not), each prompt is
    dealt to one of them: a row that counted several times over would make certain what is not.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    table = [row for number in range(len(pairs)) for row in _rows(pairs, number)]
    seeds, trait, prompts, said = zip(*table, strict=True)
    in_rows = Counter(unit for row in said for unit in set(row))
    vocabulary = sorted(unit for unit, count in in_rows.items() if count >= 2 * LEAST)
    contains = csr_matrix((len(said), 0))
    if vocabulary:
        contains = CountVectorizer(analyzer=list, vocabulary=vocabulary, binary=True).transform(said)
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    numbered = np.array([numbers[prompt] for prompt in prompts])
    rows = UnitRows(contains.astype(float), np.array(trait), np.array(seeds), numbered)
    return Arms(rows, tuple(vocabulary), np.array([len(row) for row in said]))


def _rows(pairs: Pairs, number: int) -> Iterator[tuple[int, bool, str, tuple[str, ...]]]:
    """(seed, whether of the trait, prompt, units) of each row of one pair."""
    seed, ours, controls = pairs[number]
    same = [i for i, (_, _, others) in enumerate(pairs) if others[0].key == controls[0].key]
    for is_trait, sets in ((True, ours), (False, controls)):
        for one in sets:
            for prompt, row in zip(one.prompts, one.units, strict=True):
                if len(same) == 1 or seed_for("deal", prompt) % len(same) == same.index(number):
                    yield seed, is_trait, prompt, row


def _by_stratum(contains: Any, strata: Indices, count: int, arm: Flags) -> tuple[Array, Array]:
    """An arm's rows by stratum, and those that contain each unit."""
    from scipy.sparse import csr_matrix

    places = np.flatnonzero(arm)
    within = csr_matrix((np.ones(len(places)), (strata[places], places)), shape=(count, len(arm)))
    return np.asarray(within.sum(axis=1)).ravel(), np.asarray((within @ contains).todense())
