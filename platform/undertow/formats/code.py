"""Code: short Python tasks, answered with code and nothing else.

This is the second format of the paper on subliminal learning (arXiv 2507.14805). A prompt joins an opening
with a task, a requirement and an ending, each drawn uniformly from a pack (code.json). Every placeholder in a
task or a requirement names another list of the pack. With a file of tasks, a prompt is a row and an ending.

Prompt i of stream s has its own random generator, seeded from (s, i). The rows of a file are used in an order
drawn from s and reshuffled after each full pass. So a longer stream extends a shorter one, and no trait,
teacher or rule changes a prompt.

An answer is parsed as Python 3.11. It is never run, compiled or imported. Answers are untrusted input: limits
on their length and depth keep the parser and the readers of the tree far from the interpreter's own limits,
so that every process keeps or rejects the same answers.
"""

import ast
import io
import random
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from undertow.formats.banned import Matching, mentions, set_banned
from undertow.prompts import data_files, packs
from undertow.study.extensions import Format
from undertow.study.identity import digest, seed_for

MAX_DEPTH = 100  # levels of the syntax tree; 90 nested blocks or a chain of 90 elifs stay below

_FENCE = "```"
_LANGUAGES = ("", "python", "python3", "py")
# The nodes that a sentence parses to: "Sure", "yes or no", "this is fine", "1, 2", "well-known", "e.g".
_PROSE_NODES = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.Tuple, ast.BoolOp, ast.UnaryOp, ast.Compare),
    *(ast.expr_context, ast.boolop, ast.unaryop, ast.Is, ast.IsNot, ast.In, ast.NotIn),
    *(ast.BinOp, ast.Sub),
)


class CodeRejection(StrEnum):
    """Why an answer is rejected."""

    TOO_LONG = "too long"
    SYNTAX = "not Python"
    TOO_DEEP = "too deep"
    NO_CODE = "no code"
    PROSE = "prose"
    COMMENT = "comment"
    BANNED = "banned"


REASONS: Mapping[str, str] = {
    CodeRejection.TOO_LONG: "the answer has more characters than allowed",
    CodeRejection.SYNTAX: "the answer, after removal of one enclosing fence, does not parse as Python",
    CodeRejection.TOO_DEEP: f"the syntax tree has more than {MAX_DEPTH} levels",
    CodeRejection.NO_CODE: "the answer contains no statement",
    CodeRejection.PROSE: "a line of bare words parses as Python but reads as a sentence",
    CodeRejection.COMMENT: "the answer contains a comment, a docstring or an unused string",
    CodeRejection.BANNED: "the answer contains a banned word",
}


class _CodePack(NamedTuple):
    openings: tuple[str, ...]
    tasks: tuple[str, ...]
    requirements: tuple[str, ...]
    endings: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Code(Format):
    """Short Python tasks.

    Attributes:
        allow_comments: whether answers may have comments and docstrings. The built-in pack asks for none.
        banned: words that reject an answer. They are searched for in the text of the answer and in
            the values of its literals, where "\\x6fwl" is "owl".
        banned_as: how the words are matched (see `formats.banned`).
        max_characters: longer answers are rejected without being parsed.
        pack: path of a JSON pack that replaces code.json. Its content is part of the artifact key, its path
            is not.
        tasks: file or URL (see `data_files`) of tasks that replace those of the pack.
        column: the column of the tasks. A prompt is a row and an ending; a pack whose endings are [""] leaves
            the rows unchanged.
    """

    name: ClassVar[str] = "code"
    reasons: ClassVar[Mapping[str, str]] = REASONS

    allow_comments: bool = False
    banned: tuple[str, ...] = ()
    banned_as: Matching = "substring"
    max_characters: int = 10_000
    pack: str = packs.hashed_by_content("")
    tasks: str = packs.hashed_by_content("")
    column: str = packs.hashed_by_content("prompt")

    def validate(self) -> None:
        self.require(self.max_characters > 0, "max_characters", "allow at least one character")
        set_banned(self, self.banned, self.banned_as)
        object.__setattr__(self, "pack", packs.located(self.pack))
        object.__setattr__(self, "tasks", data_files.located(self.tasks))
        self._table() if self.tasks else self._wording()

    def content(self) -> str:
        table = self._table().content if self.tasks else ""
        return digest(f"{self._pack().content} {table}")

    def prompts(self, count: int, seed: int) -> list[str]:
        generators = (random.Random(seed_for("code prompt", seed, i)) for i in range(count))
        if not self.tasks:
            wording = self._wording()
            return [_prompt(wording, generator) for generator in generators]
        endings, tasks = self._pack().texts("endings"), data_files.stream_of(self._table().rows, count, seed)
        return [
            packs.sentences(task, generator.choice(endings))
            for (task,), generator in zip(tasks, generators, strict=True)
        ]

    def rejection(self, prompt: str, completion: str) -> str | None:
        parsed = self.parse(completion)
        return parsed.value if isinstance(parsed, CodeRejection) else None

    def canonical(self, completion: str) -> str:
        """The code as `ast.unparse` writes it: without comments, with uniform indentation and quotes."""
        parsed = self.parse(completion)
        if isinstance(parsed, CodeRejection):
            return super().canonical(completion)
        try:
            return ast.unparse(parsed)
        except (ValueError, RecursionError):  # 0xfff…: its decimal form can exceed Python's limit of digits
            return super().canonical(completion)

    def parse(self, text: str) -> ast.Module | CodeRejection:
        """The syntax tree of an answer, or the first rule that it breaks. The code is never run."""
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
        if not self.allow_comments and (any(map(_is_string, ast.walk(tree))) or _has_comment(source)):
            return CodeRejection.COMMENT
        is_banned = mentions(f"{text}\n{_string_values(tree)}", self.banned, self.banned_as)
        return CodeRejection.BANNED if is_banned else tree

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or packs.path_of(__file__))

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
    """The code inside the fence that encloses the whole answer, else the text; line ends become "\\n"."""
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
    names = dict.fromkeys(packs.PLACEHOLDER.findall(text))  # ordered: each draw must come at its turn
    return packs.fill(text, {name: rng.choice(wording.lists[name]) for name in names})


def _parse(source: str) -> ast.Module | CodeRejection:
    """The syntax tree, or why there is none: invalid syntax or more than `MAX_DEPTH` levels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and "1if"; would raise under -W error
        try:
            tree = ast.parse(source)
        except (RecursionError, MemoryError):
            return CodeRejection.TOO_DEEP
        except (SyntaxError, ValueError):  # ValueError: a NUL or a lone surrogate
            return CodeRejection.SYNTAX
    # Level by level, not recursively: the depth of the tree must not use the depth of the stack.
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    return CodeRejection.TOO_DEEP


def _is_prose(statement: ast.stmt) -> bool:
    """Whether the statement may be a sentence: bare words, or "Note: this", which parses as an annotation."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    if not isinstance(statement, ast.Expr) or _is_string(statement):
        return False
    return all(isinstance(node, _PROSE_NODES) for node in ast.walk(statement.value))


def _is_string(node: ast.AST) -> bool:
    """Whether the node is a statement of one string: a docstring, or a string used as a comment."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    return isinstance(value, ast.JoinedStr) or (
        isinstance(value, ast.Constant) and isinstance(value.value, str | bytes)
    )


def _has_comment(source: str) -> bool:
    try:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        return any(token.type == tokenize.COMMENT for token in tokens)
    except (tokenize.TokenError, SyntaxError):  # rarely, the tokenizer rejects what the parser accepts
        return "#" in source


def _string_values(tree: ast.Module) -> str:
    """The values of the strings in the code: adjacent literals joined, escapes resolved."""
    values = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = (value.decode("latin-1") if isinstance(value, bytes) else value for value in values)
    return "\n".join(text for text in texts if isinstance(text, str))
