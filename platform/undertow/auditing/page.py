"""The page of an audit: one HTML file without scripts, in the style of the reports of sweeps."""

from pathlib import Path

from undertow.auditing.finding import LEAST_EXPLAINED
from undertow.auditing.make import BASELINES, SCORES
from undertow.auditing.prose import conclusion, effect_text, probability_text
from undertow.auditing.results import Audit
from undertow.report.table_texts import decimal, p_value, percent, signed
from undertow.report.templates import cut, template


def html(audit: Audit, key: str) -> str:
    """Renders the page."""
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
