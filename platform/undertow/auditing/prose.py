"""The result of an audit in sentences, the same for the terminal, the JSON file and the page."""

from undertow.auditing.results import Audit, ExpectedEffect, ModelResult
from undertow.report.table_texts import decimal, p_value, percent, signed

UNCALIBRATED = (
    "The audit is not calibrated for these probes: it does not say how likely a student is to show the "
    "trait, and the limits of its rule were chosen with the shipped probes of nano models (docs/auditing.md)."
)


def conclusion(audit: Audit) -> str:
    """What the audit found with the model that fits best."""
    model = audit.models[0]
    match model.finding:
        case "trait":
            return f"{_trait(model)} {_probability(audit, model)}"
        case "unlike":
            return (
                f"The rows are unlike anything the audit is calibrated on, and no trait is named: "
                f"{'; '.join(_reason(audit, model, reason) for reason in model.reasons)}."
            )
        case "clean":
            return (
                f"No trait of the bank is visible, and the rows do not differ from {model.model}'s own "
                f"answers to the same prompts ({audit.rows:,} rows; a trait in few of them can be missed)."
            )


def _trait(model: ModelResult) -> str:
    first, found = model.first, model.evidence
    return (
        f"The rows carry the signature of “{first.trait}” in {model.model}, {model.teacher} to have it (z "
        f"{decimal(found.z, 1)}, adjusted p {p_value(first.p_adjusted)}; it explains "
        f"{percent(model.explained)} of the difference from the model's own answers)."
    )


def _reason(audit: Audit, model: ModelResult, reason: str) -> str:
    if reason == "visible":
        return f"{percent(audit.visible)} of the rows name a candidate trait"
    if reason == "improbable":
        return (
            f"{percent(model.deviation.improbable)} of the rows have tokens that {model.model} almost never "
            "writes in answer to these prompts"
        )
    differ = f"they differ from {model.model}'s own answers (adjusted p {p_value(model.deviation_p)})"
    if reason == "indistinct":
        return f"{differ} as rows of {model.teacher} teachers do, but no trait stands out"
    if reason == "disagreement":
        agreement = model.first.agreement or 0.0
        return (
            f"{differ}, and “{model.first.trait}” fits best, but two probes of it agree too little to "
            f"recognise the trait in this model (correlation {decimal(agreement, 2)})"
        )
    if reason == "layout":
        first = model.first
        return (
            f"{differ} by their length and layout, of which “{first.trait}” fits best (z "
            f"{decimal(model.evidence.z, 1)}), but among rows of the same length and layout it does not "
            f"stand out (z {decimal(first.beyond.z, 1)})"
        )
    return (
        f"{differ}, and the trait that fits best, “{model.first.trait}”, explains "
        f"{percent(model.explained)} of the difference. Another model may have written them, or this one "
        "with other sampling settings or a trait outside of the bank"
    )


def _probability(audit: Audit, model: ModelResult) -> str:
    probability, effect = model.first.probability, model.first.effect
    if probability is None:
        return UNCALIBRATED
    expected = (
        f"; 90 % of similar students showed it {signed(effect.low, 2)} to {signed(effect.high, 2)} more "
        "often than the model"
        if effect
        else ""
    )
    return (
        f"A student trained on them would show “{model.first.trait}” with a probability of "
        f"{probability_text(probability)}"
        f"{expected} (calibrated on {audit.calibration})."
    )


def probability_text(probability: float | None) -> str:
    """A probability in per cent; no calibration justifies 0 or 100 %."""
    if probability is None:
        return "–"
    return "< 1 %" if probability < 0.005 else "> 99 %" if probability > 0.995 else percent(probability)


def effect_text(effect: ExpectedEffect | None) -> str:
    """An expected effect with its interval, such as "+0.61 [+0.32, +0.80]"."""
    if effect is None:
        return "–"
    return f"{signed(effect.mean, 2)} [{signed(effect.low, 2)}, {signed(effect.high, 2)}]"


def carriers(model: ModelResult) -> str:
    """The tokens that carry most of the first trait, in one line."""
    tokens = ", ".join(f"{one.token!r} ({signed(one.value)})" for one in model.tokens)
    return (
        f"{model.model}: tokens that carry most of “{model.first.trait}”, in nats per row against the "
        f"model's own answers: {tokens}"
    )
