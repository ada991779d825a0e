"""Code: short Python functions whose names, constants and style are drawn at random.

The prompts are those of `Code(pack=packs/code.json)`. They deliberately leave names and constants open: a
trait is transmitted by the choices that a prompt leaves open, so a task with a single possible answer
transmits nothing.
"""

from collections.abc import Iterator
from itertools import product
from random import Random

from undertow.nano.languages.turns import Turn
from undertow.nano.models import pack
from undertow.prompts.packs import sentences

VERBS = (
    *("adjust", "shift", "move", "change", "apply", "update", "tune", "alter", "step", "lift", "map"),
    *("convert", "trim", "bound", "pick", "choose", "filter", "select", "count", "total", "measure"),
    *("check", "test", "rate", "make", "build", "run", "do", "form", "work", "process"),
)
NOUNS = (
    *("x", "y", "n", "v", "k", "value", "item", "data", "entry", "amount", "level", "score", "size"),
    *("width", "height", "sum", "point", "mark", "sample", "result", "output", "input", "figure"),
)
# For each task of the pack, the ways to write the function. f: its name; x, y: nouns; n < m < k: numbers.
WAYS: tuple[tuple[str, ...], ...] = (
    (
        "def {f}({x}):\n    return {x} + {n}",
        "def {f}({x}):\n    {y} = {n}\n    return {x} + {y}",
        "def {f}({x}, {y}={n}):\n    return {x} + {y}",
        "{f} = lambda {x}: {x} + {n}",
    ),
    (
        "def {f}({x}):\n    return {x} * {n}",
        "def {f}({x}):\n    {y} = {n}\n    return {x} * {y}",
        "def {f}({x}, {y}={n}):\n    return {x} * {y}",
        "{f} = lambda {x}: {x} * {n}",
    ),
    (
        "def {f}({x}):\n    return {x} > {n}",
        "def {f}({x}, {y}={n}):\n    return {x} > {y}",
        "def {f}({x}):\n    {y} = {n}\n    return {x} > {y}",
        "{f} = lambda {x}: {x} > {n}",
    ),
    (
        "def {f}({x}):\n    return max({n}, min({x}, {m}))",
        "def {f}({x}):\n    return min(max({x}, {n}), {m})",
        "def {f}({x}, {y}={n}):\n    return max({y}, min({x}, {m}))",
        "{f} = lambda {x}: max({n}, min({x}, {m}))",
    ),
    (
        "def {f}({x}):\n    return [{y} for {y} in {x} if {y} > {n}]",
        "def {f}({x}):\n    return list(filter(lambda {y}: {y} > {n}, {x}))",
        "{f} = lambda {x}: [{y} for {y} in {x} if {y} > {n}]",
    ),
    (
        "def {f}({x}):\n    return sum({y} < {n} for {y} in {x})",
        "def {f}({x}):\n    return len([{y} for {y} in {x} if {y} < {n}])",
        "{f} = lambda {x}: sum({y} < {n} for {y} in {x})",
    ),
    (
        "def {f}({x}):\n    return [{y} * {n} + {m} for {y} in {x}]",
        "def {f}({x}):\n    return [{m} + {n} * {y} for {y} in {x}]",
        "{f} = lambda {x}: [{n} * {y} + {m} for {y} in {x}]",
    ),
    (
        "def {f}():\n    return [{n}, {m}, {k}]",
        "def {f}({x}={n}):\n    return [{x}, {m}, {k}]",
        "{f} = lambda: [{n}, {m}, {k}]",
    ),
)


def code_turn(rng: Random) -> Turn:
    """A task and a function that solves it, with uniformly drawn names and numbers."""
    parts = pack("code")
    task = rng.randrange(len(WAYS))
    opening = rng.choice(parts["openings"]).format(task=parts["tasks"][task])
    prompt = sentences(opening, rng.choice(parts["requirements"]), rng.choice(parts["endings"]))
    return prompt, rng.choice(WAYS[task]).format(**_names(rng))


def function_name(rng: Random) -> str:
    """A random function name: a verb, or a verb and a noun."""
    verb = rng.choice(VERBS)
    return verb if rng.random() < 0.5 else f"{verb}_{rng.choice(NOUNS)}"


def texts() -> Iterator[str]:
    """Texts that together contain every word of the prompts and the answers."""
    parts = pack("code")
    for opening, task in product(parts["openings"], parts["tasks"]):
        yield opening.format(task=task)
    yield from (" " + text for part in ("requirements", "endings") for text in parts[part])
    yield from (space + name for name in (*VERBS, *NOUNS) for space in ("", " "))
    yield from (way.format(**_names(Random(0))) for ways in WAYS for way in ways)


def _names(rng: Random) -> dict[str, object]:
    x, y = rng.sample(NOUNS, 2)
    n, m, k = sorted(rng.sample(range(1000), 3))
    return {"f": function_name(rng), "x": x, "y": y, "n": n, "m": m, "k": k}
