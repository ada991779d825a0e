"""Reads the one number that a text contains, in the notations that data files use; refuses everything else.

A number that is read wrongly becomes a wrong truth: right answers are rejected and wrong ones kept. A text is
therefore refused if anything in it could change the value: a second number, an operator, a scale ("million"),
a variable, or a notation that cannot be distinguished from another one.

Commas group digits and the dot separates decimals, as in GSM8K. Digits may also be grouped by spaces,
apostrophes or underscores. The continental notation ("1.000,50") is refused although it is unambiguous: the
same file may contain "1.500", which is 1500 there and 1.5 here.
"""

import re
import unicodedata
from fractions import Fraction

_DIGITS = 40  # the most digits of an integer: Python refuses to convert a few thousand
_GROUPED = (
    r"[1-9]\d{0,2}(?:,\d{3})+"
    r"|[1-9]\d?(?:,\d{2})+,\d{3}"  # lakh and crore: 1,00,000
    r"|[1-9]\d{0,2}(?:(?P<space>[ _'’\u00a0\u2009\u202f])\d{3})(?:(?P=space)\d{3})*"
)
_NUMBER = re.compile(
    r"(?P<minus>-?)\s?[$€£¥₹]?\s?(?P<later_minus>-?)(?:"
    rf"(?:(?P<whole>\d{{1,{_DIGITS}}})\s+(?=\d{{1,2}}/))?(?P<top>\d{{1,{_DIGITS}}})/(?P<bottom>\d{{1,{_DIGITS}}})"
    rf"|(?P<grouped>{_GROUPED})(?P<decimals>\.\d+)?"
    rf"|(?P<plain>\d{{1,{_DIGITS}}}(?:\.\d{{1,{_DIGITS}}})?|\.\d{{1,{_DIGITS}}})(?P<exponent>[eE][-+]?\d{{1,2}})?)",
    re.ASCII,
)
_PERHAPS_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d\d0", re.ASCII)  # 1.500 is 1500 in continental notation
_LATEX = (
    (re.compile(r"\{,\}|,\\!"), ","),
    (re.compile(r"\\[,;: ]|~"), " "),
    (re.compile(r"\\[()\[\]!]|\$\$|\*\*"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|boxed)\{([^{}]*)\}"), r" \1 "),
)
_MINUS_SIGNS = dict.fromkeys(map(ord, "−–﹣－"), "-")
_SLASHES = dict.fromkeys(map(ord, "⁄∕"), "/")
# Words and suffixes that change the value of the adjacent number.
_CHANGES_VALUE = re.compile(
    r"\b(?:minus|negative|hundred|thousand|million|billion|trillion|dozen|half|halve|third|quarter)s?\b",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"\s?/?\s?(?:[kKMBxyznei]|bn|mn)\b")
_PUNCTUATION = ".,:;\"'“”‘’?%°/()[]=≈_"


def read(text: str) -> str | None:
    """The value of the one number in `text` as a decimal ("1,200.50 m" gives "1200.5"); None if refused.

    Words, units, a currency and a percent sign, which does not divide the value, may surround the number.
    """
    return _read(text, alone=False)


def read_alone(text: str) -> str | None:
    """As `read`, for a text that must be a number alone, with at most a currency or a percent sign."""
    return _read(text, alone=True)


def _read(text: str, *, alone: bool) -> str | None:
    text = _plain_notation(text)
    found = _NUMBER.search(text)
    if found is None:
        return None
    before, after = text[: found.start()], text[found.end() :]
    if (before.strip() or after.strip(" $%")) if alone else not _harmless(before, after):
        return None
    value = _value(found)
    return None if value is None else _decimal(value)


def _plain_notation(text: str) -> str:
    """`text` with ASCII minus signs and fractions, and without LaTeX."""
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    # "5½" must become "5 1/2": normalisation alone gives "51⁄2".
    text = "".join(
        f" {unicodedata.normalize('NFKC', c)}" if unicodedata.decomposition(c).startswith("<fraction>") else c
        for c in text
    )
    return text.translate(_MINUS_SIGNS).translate(_SLASHES).strip()


def _harmless(before: str, after: str) -> bool:
    """Whether the text around a number cannot change its value."""
    joined = f"{before} {after}"
    if any(not _is_prose(character) for character in joined.replace("-", "")) or _CHANGES_VALUE.search(
        joined
    ):
        return False
    if re.search(r"-(?![^\W\d_])", joined) or before[-1:].isalnum() or before[-1:] in (".", "-", "/"):
        return False
    in_parentheses = before.endswith("(") and after.startswith(")")  # a negative amount in accounting
    return not (in_parentheses or _SUFFIX.match(after))


def _is_prose(character: str) -> bool:
    """Whether it is a letter, white space, a currency or punctuation. π is a number written as a letter."""
    kind = unicodedata.category(character)
    letter = kind[0] in "LM" and unicodedata.normalize("NFKC", character) != "π"
    return letter or kind == "Sc" or character.isspace() or character in _PUNCTUATION


def _value(found: re.Match[str]) -> Fraction | None:
    """The value of a match of `_NUMBER`; None if it has none or could have two."""
    if found["minus"] and found["later_minus"]:
        return None
    if found["top"]:
        top, bottom = int(found["top"]), int(found["bottom"])
        if bottom == 0 or (found["whole"] and top >= bottom):
            return None
        value = int(found["whole"] or 0) + Fraction(top, bottom)
    elif found["grouped"]:
        value = Fraction(re.sub(r"\D", "", found["grouped"]) + (found["decimals"] or ""))
    elif found["exponent"] is None and _PERHAPS_THOUSANDS.fullmatch(found["plain"]):
        return None
    else:
        value = Fraction(found["plain"] + (found["exponent"] or ""))
    return -value if found["minus"] or found["later_minus"] else value


def _decimal(value: Fraction) -> str | None:
    """The exact decimal notation, without trailing zeros; None for a value that has none, such as 1/3."""
    places, scaled = 0, value
    while scaled.denominator != 1:
        places, scaled = places + 1, scaled * 10
        if places > 2 * _DIGITS + 100:
            return None
    digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
    shown = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{shown}" if value < 0 else shown
