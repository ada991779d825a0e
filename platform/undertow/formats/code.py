"""Code: short Python tasks, answered with code and nothing else.

The second format of the paper on subliminal learning (arXiv 2507.14805). A prompt is put together from an
opening with a task, a requirement and an ending, each drawn uniformly from a pack (code.json), in which any
placeholder is the name of a further list of texts. With a file of tasks, a prompt is a row and an ending.
Prompt i of stream s is drawn by a generator of its own, seeded from (s, i); a file's rows are asked in an
order drawn from s, and once all are through, again in another. Either way any prefix of a stream is the same
whatever is asked for, and no trait, teacher or rule below changes a prompt.

An answer is parsed as Python 3.11 and never run, compiled or imported. It is hostile until then: its length
and depth have limits, below which neither the parser nor what reads the tree comes near a limit of the
interpreter, so that the same answer is kept or rejected wherever it is read.
"""

import ast
import io
import random
import re
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple

from undertow.formats.banned import Matching, as_set, mentions, searchable
from undertow.prompts import data_files, packs
from undertow.study.extensions import Format
from undertow.study.identity import digest, seed_for

MAX_DEPTH = 100  # levels of the syntax tree; 90 nested blocks have fewer, and so has a chain of 90 elifs

_FENCE = "```"
_LANGUAGES = ("", "python", "python3", "py")
# What a sentence can be taken for: "Sure", "yes or no", "this is fine", "1, 2", "well-known", "e.g".
_WORDS = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.Tuple, ast.BoolOp, ast.UnaryOp, ast.Compare),
    *(ast.expr_context, ast.boolop, ast.unaryop, ast.Is, ast.IsNot, ast.In, ast.NotIn),
    *(ast.BinOp, ast.Sub),
)


class CodeRejection(StrEnum):
    """Why an answer is no code as asked for."""

    TOO_LONG = "too long"
    SYNTAX = "not Python"
    TOO_DEEP = "too deep"
    NO_CODE = "no code"
    PROSE = "prose"
    COMMENT = "comment"
    BANNED = "banned"


REASONS: Mapping[str, str] = {
    CodeRejection.TOO_LONG.value: "the answer has more characters than allowed",
    CodeRejection.SYNTAX.value: "the answer, without one fence around it, does not parse as Python",
    CodeRejection.TOO_DEEP.value: f"the syntax tree has more than {MAX_DEPTH} levels",
    CodeRejection.NO_CODE.value: "there is no statement",
    CodeRejection.PROSE.value: "a line parses and says no more than a sentence would (bare words)",
    CodeRejection.COMMENT.value: "there is a comment, a docstring or a text that nothing uses",
    CodeRejection.BANNED.value: "a banned word is mentioned",
}


class _CodePack(NamedTuple):
    openings: tuple[str, ...]
    tasks: tuple[str, ...]
    requirements: tuple[str, ...]
    endings: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Code(Format):
    """Write a short piece of Python.

    Attributes:
        allow_comments: keeps answers with comments and docstrings; the built-in pack asks for none.
        banned, banned_as: words that reject an answer, and how they are searched for (see `banned`): in the
            answer and in its literals, where "o" "wl" and "\\x6fwl" are "owl".
        max_characters: longer answers are rejected unread.
        pack: path of a JSON pack instead of code.json; its content is identity, its place is not.
        tasks: file or URL (see `tables`) of tasks instead of the pack's.
        column: its column. A row is the prompt but for the ending; a pack whose endings are [""] adds none.
    """

    name: ClassVar[str] = "code"
    reasons: ClassVar[Mapping[str, str]] = REASONS

    allow_comments: bool = False
    banned: tuple[str, ...] = ()
    banned_as: Matching = "substring"
    max_characters: int = 10_000
    pack: str = packs.elsewhere("")
    tasks: str = packs.elsewhere("")
    column: str = packs.elsewhere("prompt")

    def validate(self) -> None:
        self.require(self.max_characters > 0, "max_characters", "at least one character")
        object.__setattr__(self, "banned", as_set(self.banned))
        findable = all(searchable(word, self.banned_as) for word in self.banned)
        self.require(findable, "banned", "a word with something to search for")
        self._table() if self.tasks else self._wording()

    def content(self) -> str:
        table = self._table().content if self.tasks else ""
        return digest(f"{self._pack().content} {table}")

    def prompts(self, count: int, seed: int) -> list[str]:
        generators = (random.Random(seed_for("code prompt", seed, i)) for i in range(count))
        if not self.tasks:
            wording = self._wording()
            return [_prompt(wording, generator) for generator in generators]
        endings, rows = self._pack().texts("endings"), self._table().rows
        places = data_files.places(len(rows), count, seed)
        return [
            packs.sentences(rows[place][0], generator.choice(endings))
            for place, generator in zip(places, generators, strict=True)
        ]

    def rejection(self, prompt: str, completion: str) -> str | None:
        parsed = self.parse(completion)
        return parsed.value if isinstance(parsed, CodeRejection) else None

    def canonical(self, completion: str) -> str:
        """The code as Python itself writes it: without comments, with one way to indent and to quote."""
        parsed = self.parse(completion)
        if isinstance(parsed, CodeRejection):
            return super().canonical(completion)
        try:
            return ast.unparse(parsed)
        except (ValueError, RecursionError):  # e.g. 0xfff… with more digits than Python writes
            return super().canonical(completion)

    def parse(self, text: str) -> ast.Module | CodeRejection:
        """The syntax tree of an answer, or the first rule that it breaks. Nothing of it is ever run."""
        if len(text) > self.max_characters:
            return CodeRejection.TOO_LONG
        source = unfence(text)
        tree = _parse(source)
        if isinstance(tree, CodeRejection):
            return tree
        if not tree.body:
            return CodeRejection.NO_CODE
        if any(map(_is_prose, tree.body)):
            return CodeRejection.PROSE
        if not self.allow_comments and (_has_docstring(tree) or _has_comment(source)):
            return CodeRejection.COMMENT
        found = mentions(f"{text}\n{_texts(tree)}", self.banned, self.banned_as)
        return CodeRejection.BANNED if found else tree

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or str(Path(__file__).with_suffix(".json")))

    def _table(self) -> data_files.Table:
        return data_files.read(self.tasks, (self.column,))

    def _wording(self) -> _CodePack:
        pack = self._pack()
        tasks, requirements = (
            pack.texts(field, optional=list(pack.fields)) for field in ("tasks", "requirements")
        )
        names = {name for text in (*tasks, *requirements) for name in packs.PLACEHOLDER.findall(text)}
        return _CodePack(
            openings=pack.texts("openings", required=["task"]),
            tasks=tasks,
            requirements=requirements,
            endings=pack.texts("endings"),
            lists={name: pack.texts(name) for name in names},
        )


def unfence(text: str) -> str:
    """The code within one fence around the whole answer, if there is one; all line ends as Python's."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first, _, rest = text.strip().partition("\n")
    inner, end, last = rest.rpartition(_FENCE)
    language = first.removeprefix(_FENCE).strip().lower()
    if first.startswith(_FENCE) and language in _LANGUAGES and end and not last and inner[-1:] in ("", "\n"):
        return inner
    return text


def _prompt(wording: _CodePack, rng: random.Random) -> str:
    opening = packs.fill(rng.choice(wording.openings), {"task": rng.choice(wording.tasks)})
    text = packs.sentences(opening, rng.choice(wording.requirements), rng.choice(wording.endings))
    names = dict.fromkeys(packs.PLACEHOLDER.findall(text))
    return packs.fill(text, {name: rng.choice(wording.lists[name]) for name in names})


def _parse(source: str) -> ast.Module | CodeRejection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes and numbers; an error where warnings are errors
        try:
            tree = ast.parse(source)
        except (RecursionError, MemoryError):
            return CodeRejection.TOO_DEEP
        except (SyntaxError, ValueError):  # ValueError: a NUL, or half of a surrogate pair
            return CodeRejection.SYNTAX
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    return CodeRejection.TOO_DEEP


def _is_prose(statement: ast.stmt) -> bool:
    """Whether a sentence could be meant: bare words, or "Note: this", which parses as an annotation."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    if not isinstance(statement, ast.Expr) or _is_text(statement):
        return False
    return all(isinstance(node, _WORDS) for node in ast.walk(statement.value))


def _is_text(node: ast.AST) -> bool:
    """A statement that is a text and nothing more: a docstring, or what serves as a comment."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    return isinstance(value, ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str | bytes)
    )


def _has_docstring(tree: ast.Module) -> bool:
    return any(map(_is_text, ast.walk(tree)))


def _has_comment(source: str) -> bool:
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        return any(token.type == tokenize.COMMENT for token in tokens)
    except (tokenize.TokenError, SyntaxError):  # stricter than the parser in rare cases
        return "#" in source


def _texts(tree: ast.Module) -> str:
    """The texts in the code as they are once read: adjacent ones joined, escapes resolved."""
    values = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = (value.decode("latin-1") if isinstance(value, bytes) else value for value in values)
    return "\n".join(text for text in texts if isinstance(text, str))
