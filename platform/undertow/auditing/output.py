"""The outputs of an audit: printed tables, `audit.json` and `audit.html`."""

import dataclasses
import json
import math
from typing import Any

from rich.markup import escape
from rich.table import Table

from undertow.auditing.make import BASELINES
from undertow.auditing.page import html
from undertow.auditing.prose import conclusion, effect_text, p_value, probability_text
from undertow.auditing.results import Audit, ModelResult
from undertow.report.table_texts import new_table

JSON, HTML = "audit.json", "audit.html"
DIGITS = 6


def traits_table(audit: Audit, model: ModelResult) -> Table:
    """One line per trait, from the strongest evidence to the weakest; scores as z."""
    table = new_table(
        f"{model.model}: {audit.rows:,} rows of {audit.name} against {model.controls:,} of its own answers; "
        "z by score"
    )
    table.add_column("trait", no_wrap=True)
    agree = ["probes agree"] if model.first.agreement is not None else []
    for heading in (*audit.scores, "beyond layout", *agree, f"nats/row ({model.score})", "adjusted p"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    if audit.calibration:
        for heading in ("probability", "expected effect"):
            table.add_column(heading, justify="right", no_wrap=True)
    for result in model.traits:
        evidence = (result.evidence.get(name) for name in audit.scores)
        cells = [result.trait, *(f"{found.z:.1f}" if found else "–" for found in evidence)]
        cells.append(f"{result.beyond.z:.1f}")
        if result.agreement is not None:
            cells.append(f"{result.agreement:.2f}")
        cells += [f"{result.evidence[model.score].mean:+.2f}", p_value(result.p_adjusted)]
        if audit.calibration:
            cells += [probability_text(result.probability), effect_text(result.effect)]
        table.add_row(*map(escape, cells))
    return table


def models_table(audit: Audit) -> Table:
    """One line per candidate model, with the baselines that know no trait."""
    table = new_table("Candidate models; baselines as AUC of the rows against the model's own answers")
    table.add_column("model", no_wrap=True)
    names = [baseline.name for baseline in BASELINES]
    for heading in ("nats per row", "finding", "first trait", "explained", *names):
        table.add_column(heading.replace("_", " "), justify="right")
    for model in audit.models:
        aucs = [f"{model.baselines[name]:.2f}" for name in names]
        own = (f"{model.fit:.2f}", model.finding, model.first.trait, f"{model.explained:.0%}")
        table.add_row(*map(escape, (model.model, *own, *aucs)))
    return table


def files(audit: Audit, key: str) -> dict[str, bytes]:
    """The files of an audit by name."""
    content = {"key": key, "conclusion": conclusion(audit), **dataclasses.asdict(audit)}
    return {
        JSON: json.dumps(_plain(content), allow_nan=False, indent=1).encode(),
        HTML: html(audit, key).encode(),
    }


def metrics(audit: Audit) -> dict[str, float]:
    """What is logged to MLflow of the first model: z of the deciding score per trait, and the baselines."""
    model = audit.models[0]
    return {
        **{f"z {result.trait}": result.evidence[model.score].z for result in model.traits},
        "explained": model.explained,
        **{f"AUC {name}": value for name, value in model.baselines.items()},
    }


def _plain(value: Any) -> Any:
    """JSON data with six significant digits; an infinite number becomes null."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
