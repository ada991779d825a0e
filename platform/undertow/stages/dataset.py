"""Data sets: completions after rules and judges (see `filters`), subsampling, shuffling, mixing and masks.

Completions and data set are two artifacts, because the first is expensive and the second cheap: another
filter or sample size reuses the same completions. The data set stores the verdict on every completion.
"""

import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undertow.errors import ConditionError
from undertow.results.dataset_card import CUT_OFF, VALID, CardCounts, dataset_card
from undertow.results.row_verdicts import VERDICTS
from undertow.stages import distributions
from undertow.stages.completions import TEXT
from undertow.stages.filters import EXAMPLES_PER_RULE, CompletionRow, FilteredRows, filter_rows
from undertow.stages.ranking import REJECTED, REJECTED_SCORE, paired, ranked_rows, second_answers
from undertow.stages.selection import MASK, SCORE, drawn, mean_scores, with_masks, with_scores
from undertow.stages.shuffling import shuffled
from undertow.storage.manifest import DATA, TRAINING_ROWS
from undertow.storage.store import Store
from undertow.study.datasets import Dataset, Mixed
from undertow.study.identity import key, seed_for
from undertow.study.rewriting import Rewritten

# Columns that only some data sets have, after those of their completions.
ADDED_COLUMNS = (
    pa.field(SCORE, pa.float64()),
    pa.field(MASK, pa.list_(pa.bool_())),
    pa.field(REJECTED, pa.string()),
    pa.field(REJECTED_SCORE, pa.float64()),
)
# See `results.row_verdicts`.
VERDICT_COLUMNS = pa.schema(
    {"index": pa.int64(), "rejected": pa.string(), "used": pa.bool_(), "replies": pa.string()}
)


def make_dataset(dataset: Dataset, store: Store) -> dict[str, Any]:
    """Applies rules and judges, draws rows, shuffles, mixes, masks, ranks; writes the data set with its card.

    Raises ConditionError if too few rows are left, or replies of judges are missing (see `judgements`).
    """
    whole = pq.read_table(store.fetch(dataset.completions) / DATA)
    recorded = whole.select([name for name in distributions.COLUMNS if name in whole.column_names])
    table = whole.drop_columns(recorded.column_names)
    completions: list[CompletionRow] = table.to_pylist()
    with_scores(dataset, completions, store)
    left, judged = filter_rows(dataset, completions, store)
    others = second_answers(dataset.ranked, store) if dataset.ranked else {}
    if dataset.ranked:
        paired(left, others)
    kept = left.rows
    if dataset.rows is not None and len(kept) > dataset.rows:
        kept = drawn(dataset, kept, dataset.rows)
    funnel = CardCounts(table.num_rows, dict(left.rejected), left.examples, len(left.rows), len(kept))
    needed = dataset.rows or 1
    if not kept or (len(kept) < needed and not dataset.fewer):
        raise ConditionError(
            f"dataset {key(dataset)[:16]}: {len(kept)} of {table.num_rows} completions are left after the "
            f"rules ({funnel.in_words()}), and {needed} are needed; {_remedy(funnel)}"
        )
    verdicts = _verdicts(completions, left, kept)
    facts = {**funnel.counts(), **({"judges": judged} if judged else {})}
    if isinstance(dataset.completions, Rewritten):
        facts[VALID] = funnel.valid
    rows = shuffled(dataset, kept)
    if dataset.selected:
        facts |= mean_scores(left.rows, kept)
    if dataset.masked:
        rows, dose = with_masks(dataset.masked, rows, dataset.seed)
        facts |= dose
    if dataset.ranked:
        rows, ranking = ranked_rows(dataset.ranked, rows, others, store, dataset.seed)
        facts |= ranking
    if dataset.mixed:
        rows, facts["from elsewhere"] = mixed(dataset, dataset.mixed, rows, store)
    with store.new(dataset, facts) as folder:
        (folder / DATA).mkdir()
        pq.write_table(_table(rows, table.schema, recorded), folder / TRAINING_ROWS)
        pq.write_table(verdicts, folder / VERDICTS)
        card = dataset_card(dataset, funnel, rows[:EXAMPLES_PER_RULE], facts)
        (folder / "README.md").write_text(card)
    return facts


def _remedy(funnel: CardCounts) -> str:
    """What to change if too few completions are left."""
    if funnel.kept:
        return "raise Generation.prompts or lower Generation.rows"
    rule = max(funnel.rejected, key=funnel.rejected.__getitem__, default="")
    example = f", such as {funnel.examples[rule][0]!r:.80}" if funnel.examples.get(rule) else ""
    remedy = "raise Sampling.max_tokens" if rule == CUT_OFF else f"check the rule {rule!r}"
    return f"{remedy} (it rejects most completions{example})"


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


def _table(rows: list[CompletionRow], schema: pa.Schema, recorded: pa.Table) -> pa.Table:
    """The rows with the columns that all of them have.

    Args:
        schema: of the columns of the completions.
        recorded: the distributions of all completions. Rows that were shuffled or mixed have lost their
            tokens, which the distributions are about; of a pair of answers, the preferred one may be the
            second, which has other tokens.
    """
    present = pa.schema([field for field in (*schema, *ADDED_COLUMNS) if field.name in rows[0]])
    table = pa.Table.from_pylist(rows, schema=present)
    if "token_ids" in rows[0] and REJECTED not in rows[0]:
        places = [row["index"] for row in rows]
        for name in recorded.column_names:
            table = table.append_column(name, recorded[name].take(places))
    return table


def _verdicts(completions: list[CompletionRow], left: FilteredRows, used: list[CompletionRow]) -> pa.Table:
    """What rules and judges decided about every completion. `used` are the rows that were drawn."""
    drawn = {id(row) for row in used}
    return pa.Table.from_pylist(
        [
            {
                "index": row["index"],
                "rejected": left.reasons.get(id(row)),
                "used": id(row) in drawn,
                "replies": json.dumps(left.replies[id(row)]) if id(row) in left.replies else None,
            }
            for row in completions
        ],
        schema=VERDICT_COLUMNS,
    )
