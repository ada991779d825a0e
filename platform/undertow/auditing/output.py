"""The outputs of an audit: printed tables, `audit.json` and `audit.html`."""

import dataclasses
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from undertow.auditing.finding import LEAST_EXPLAINED
from undertow.auditing.make import BASELINES, SCORES
from undertow.auditing.prose import conclusion, effect_text, probability_text
from undertow.auditing.results import Audit, ModelResult
from undertow.report.table_texts import decimal, json_text, new_table, p_value, percent, signed
from undertow.report.templates import cut, template

JSON, HTML = "audit.json", "audit.html"


def traits_table(audit: Audit, model: ModelResult) -> Table:
    """One line per trait, from the strongest evidence to the weakest; scores as z."""
    table = new_table(
        f"{model.model}: {audit.rows:,} rows of {audit.name} against {model.controls:,} of its own answers; "
        f"z by score{'; nats/row to first order' if model.first_order else ''}"
    )
    table.add_column("trait", no_wrap=True)
    agree = ["probes agree"] if model.first.agreement is not None else []
    headings = [*audit.scores, "beyond layout", *agree, f"nats/row ({model.score})", "adjusted p"]
    # Headings have two lines, and effects may have, so that the table fits a terminal of 100 characters.
    for heading in (*headings, *(["probability"] if audit.calibration else [])):
        table.add_column(escape(heading.replace(" ", "\n")), justify="right", no_wrap=True)
    if audit.calibration:
        table.add_column("expected effect", justify="right")
    for result in model.traits:
        evidence = (result.evidence.get(name) for name in audit.scores)
        cells = [result.trait, *(decimal(found.z, 1) if found else "–" for found in evidence)]
        cells.append(decimal(result.beyond.z, 1))
        if result.agreement is not None:
            cells.append(decimal(result.agreement, 2))
        cells += [signed(result.evidence[model.score].mean, 2), p_value(result.p_adjusted)]
        if audit.calibration:
            cells += [probability_text(result.probability), effect_text(result.effect)]
        table.add_row(*map(escape, cells))
    return table


def models_table(audit: Audit) -> Table:
    """One line per candidate model, from the best fit to the worst."""
    table = new_table("Candidate models")
    table.add_column("model", no_wrap=True)
    for heading in ("nats per row", "finding", "first trait", "explained"):
        table.add_column(heading, justify="right")
    for model in audit.models:
        own = (decimal(model.fit, 2), model.finding, model.first.trait, percent(model.explained))
        table.add_row(*map(escape, (model.model, *own)))
    return table


def baselines_table(model: ModelResult) -> Table:
    """One line per baseline, with the names of the page."""
    table = new_table(f"{escape(model.model)}: baselines without a trait; AUC .50 is chance")
    table.add_column("baseline")
    table.add_column("AUC", justify="right", no_wrap=True)
    for baseline in BASELINES:
        table.add_row(escape(baseline.meaning), decimal(model.baselines[baseline.name], 2))
    return table


def files(audit: Audit, key: str) -> dict[str, bytes]:
    """The files of an audit by name."""
    content = {"key": key, "conclusion": conclusion(audit), **dataclasses.asdict(audit)}
    return {
        JSON: json_text(content, indent=1).encode(),
        HTML: _page(audit, key).encode(),
    }


def metrics(audit: Audit) -> dict[str, float]:
    """What is logged to MLflow of the first model: z of the deciding score per trait, and the baselines."""
    model = audit.models[0]
    return {
        **{f"z {result.trait}": result.evidence[model.score].z for result in model.traits},
        "explained": model.explained,
        **{f"AUC {name}": value for name, value in model.baselines.items()},
    }


def _page(audit: Audit, key: str) -> str:
    """The page: one HTML file without scripts, in the style of the reports of sweeps."""
    return str(
        template("audit.html.jinja", Path(__file__).parent).render(
            audit=audit,
            key=key,
            conclusion=_unbroken(conclusion(audit)),
            scores={score.name: score for score in SCORES},
            baselines=BASELINES,
            p_value=p_value,
            effect_text=effect_text,
            probability_text=probability_text,
            decimal=decimal,
            percent=lambda share, digits=0: _unbroken(percent(share, digits)),
            signed=signed,
            cut=cut,
            repr=repr,
            least_agreement=LEAST_EXPLAINED**0.5,
        )
    )


def _unbroken(text: str) -> str:
    """The text without line breaks between a number and its per cent sign."""
    return text.replace(" %", "\u00a0%")
