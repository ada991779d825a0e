"""Data sets: completions after rules and judges (see `filters`), subsampling, shuffling, mixing and masks.

Completions and data set are two artifacts, because the first is expensive and the second cheap: another
filter or sample size reuses the same completions. The data set stores the verdict on every completion.
"""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undertow.errors import ConditionError
from undertow.results.dataset_card import VALID, CardCounts, dataset_card
from undertow.results.row_verdicts import VERDICTS
from undertow.stages.completions import TEXT
from undertow.stages.filters import EXAMPLES_PER_RULE, CompletionRow, FilteredRows, filter_rows
from undertow.stages.selection import MASK, SCORE, drawn, mean_scores, with_masks, with_scores
from undertow.stages.shuffling import shuffled
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.artifacts import Dataset, Mixed, Rewritten
from undertow.study.identity import key, seed_for

# Columns that only some data sets have, after those of their completions.
ADDED_COLUMNS = (pa.field(SCORE, pa.float64()), pa.field(MASK, pa.list_(pa.bool_())))
# See `results.row_verdicts`.
VERDICT_COLUMNS = pa.schema(
    {"index": pa.int64(), "rejected": pa.string(), "used": pa.bool_(), "replies": pa.string()}
)


def make_dataset(dataset: Dataset, store: Store) -> dict[str, Any]:
    """Applies rules and judges, draws rows, shuffles, mixes, masks, and writes the data set with its card.

    Raises ConditionError if too few rows are left, or replies of judges are missing (see `judgements`).
    """
    table = pq.read_table(store.fetch(dataset.completions) / DATA)
    completions: list[CompletionRow] = table.to_pylist()
    with_scores(dataset, completions, store)
    left, judged = filter_rows(dataset, completions, store)
    kept = left.rows
    if dataset.rows is not None and len(kept) < dataset.rows and not dataset.fewer:
        raise ConditionError(
            f"dataset {key(dataset)[:16]}: {len(kept)} of {table.num_rows} completions are left after the "
            f"rules, and {dataset.rows} are needed; raise Generation.prompts or lower Generation.rows"
        )
    if dataset.rows is not None and len(kept) > dataset.rows:
        kept = drawn(dataset, kept, dataset.rows)
    funnel = CardCounts(table.num_rows, dict(left.rejected), left.examples, len(left.rows), len(kept))
    if not kept:
        raise ConditionError(
            f"dataset {key(dataset)[:16]}: no completion passes the rules ({funnel.in_words()})"
        )
    verdicts = _verdicts(completions, left, kept)
    facts = {**funnel.counts(), **({"judges": judged} if judged else {})}
    if isinstance(dataset.completions, Rewritten):
        facts[VALID] = funnel.valid
    rows, schema = shuffled(dataset, kept), table.schema
    if dataset.selected:
        facts |= mean_scores(left.rows, kept)
    if dataset.masked:
        rows, dose = with_masks(dataset.masked, rows, dataset.seed)
        facts |= dose
    if dataset.mixed:
        rows, facts["from elsewhere"] = mixed(dataset, dataset.mixed, rows, store)
    with store.new(dataset, facts) as folder:
        _write(dataset, rows, funnel, facts, folder, schema)
        pq.write_table(verdicts, folder / VERDICTS)
    return facts


def mixed(
    dataset: Dataset, other: Mixed, rows: list[CompletionRow], store: Store
) -> tuple[list[CompletionRow], int]:
    """The rows with a share of them replaced by rows of another data set, and the number replaced.

    The data set's seed decides which rows of both are taken. Only text is common to all sources, so columns
    of tokens are left out.
    """
    source = pq.read_table(store.fetch(other.dataset) / DATA, columns=list(TEXT)).to_pylist()
    count = round(other.share * len(rows))
    if count > len(source):
        raise ConditionError(
            f"dataset {key(dataset)[:16]}: {count} rows are needed from dataset {key(other.dataset)[:16]}, "
            f"which has {len(source)}; raise Generation.prompts or lower Generation.rows"
        )
    rng = random.Random(seed_for("mix", dataset.seed))
    kept = sorted(rng.sample(range(len(rows)), len(rows) - count))
    added = rng.sample(source, count)
    return [*({name: rows[i][name] for name in TEXT} for i in kept), *added], count


def _write(
    dataset: Dataset,
    rows: list[dict[str, Any]],
    funnel: CardCounts,
    facts: dict[str, Any],
    folder: Path,
    schema: pa.Schema,
) -> None:
    """Writes the rows as Parquet, with the columns that all of them have, and the card."""
    (folder / DATA).mkdir()
    present = pa.schema([field for field in (*schema, *ADDED_COLUMNS) if field.name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=present), folder / DATA / "train.parquet")
    (folder / "README.md").write_text(dataset_card(dataset, funnel, rows[:EXAMPLES_PER_RULE], facts))


def _verdicts(completions: list[CompletionRow], left: FilteredRows, used: list[CompletionRow]) -> pa.Table:
    """What rules and judges decided about every completion. `used` are the rows that were drawn."""
    drawn = {id(row) for row in used}
    return pa.Table.from_pylist(
        [
            {
                "index": number,
                "rejected": left.reasons.get(id(row)),
                "used": id(row) in drawn,
                "replies": json.dumps(left.replies[id(row)]) if id(row) in left.replies else None,
            }
            for number, row in enumerate(completions)
        ],
        schema=VERDICT_COLUMNS,
    )
