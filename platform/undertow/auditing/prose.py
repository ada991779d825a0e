"""The result of an audit in sentences, the same for the terminal, the JSON file and the page."""

from undertow.auditing.results import Audit, ModelResult, TraitResult

UNCALIBRATED = (
    "Scores are uncalibrated: they rank traits, and do not say how likely a student is to show one."
)


def conclusion(audit: Audit) -> str:
    """What the audit found, in one sentence about the trait and one about the probability."""
    model = audit.models[0]
    if model.problem:
        return f"No candidate model could be audited: {model.problem}."
    return f"{_finding(audit, model)} {_probability(audit, model.traits[0])}"


def _finding(audit: Audit, model: ModelResult) -> str:
    first = model.traits[0]
    found = first.evidence[audit.main]
    evidence = f"z {found.z:.1f}, adjusted p {p_value(first.p_adjusted)}"
    if first.p_adjusted < audit.alpha and found.mean > 0:
        return (
            f"The rows carry the signature of “{first.trait}” in {model.model}: the trait's probe makes them "
            f"{found.mean:.2f} nats per row more likely than the model itself does ({evidence})."
        )
    if first.p_adjusted < audit.alpha:
        return (
            f"The rows lean towards “{first.trait}” in {model.model} ({evidence}), but its probe does not "
            "make them more likely than the model itself does: few rows may carry the trait, or another "
            "model or a trait outside of the bank may have written them."
        )
    if is_surprising(audit, model):
        assert model.surprise is not None
        difference = model.surprise.mean - model.surprise.control
        return (
            f"No candidate trait is visible, but the rows differ from {model.model}'s own answers to the "
            f"same prompts ({difference:+.2f} nats per row): another model or a trait outside of the bank "
            "may have written them."
        )
    return (
        f"No candidate trait is visible, and the rows are as likely as {model.model}'s own answers to the "
        "same prompts."
    )


def is_surprising(audit: Audit, model: ModelResult) -> bool:
    """Whether the rows are more or less likely than the model's own answers, by a two-sided test."""
    surprise = model.surprise
    return surprise is not None and 2 * min(surprise.p, 1 - surprise.p) < audit.alpha


def _probability(audit: Audit, first: TraitResult) -> str:
    if first.probability is None:
        return UNCALIBRATED
    return (
        f"A student trained on them would show “{first.trait}” with a probability of {first.probability:.0%} "
        f"(calibrated on {audit.calibration})."
    )


def p_value(p: float) -> str:
    """A p-value with two digits, or a bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def carriers(model: ModelResult) -> str:
    """The tokens that carry most of the first trait, in one line."""
    tokens = ", ".join(f"{one.token!r} ({one.value:+.3f})" for one in model.tokens)
    return (
        f"{model.model}: tokens that carry most of “{model.traits[0].trait}”, in nats per row against the "
        f"model's own answers: {tokens}"
    )
