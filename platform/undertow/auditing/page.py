"""The page of an audit: one HTML file without scripts, in the style of the reports of sweeps."""

from functools import cache
from pathlib import Path
from typing import Any

from undertow import report
from undertow.auditing.finding import LEAST_EXPLAINED
from undertow.auditing.make import BASELINES, SCORES
from undertow.auditing.prose import conclusion, effect_text, probability_text
from undertow.auditing.results import Audit
from undertow.report.table_texts import decimal, p_value, percent, signed

SHOWN_CHARACTERS = 400  # of a prompt or completion


def html(audit: Audit, key: str) -> str:
    """Renders the page."""
    return str(
        _template().render(
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
            cut=_cut,
            repr=repr,
            least_agreement=LEAST_EXPLAINED**0.5,
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent, Path(str(report.__file__)).parent]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("audit.html.jinja")


def _unbroken(text: str) -> str:
    """The text without line breaks between a number and its per cent sign."""
    return text.replace(" %", "\u00a0%")


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"
