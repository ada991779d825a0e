"""A model's chat template, tried before anything is spent and without importing transformers.

A template is a program that came with a model, possibly from anybody. It is rendered in jinja2's sandbox, as
transformers renders it, and in a process of its own with little time and memory: a sandbox keeps it from
files and functions, and not from a loop that never ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from undertow.prompts.chat_templates import PINNED, Manners, Render, TemplateError, Turns, manners

SECONDS = 2  # of processor time
MEMORY = 2**30  # bytes
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from undertow.prompts.template_sandbox import main; main()"
)


def learn(template: str, tokens: Mapping[str, str]) -> Manners:
    """A template's manners, found within `SECONDS` and `MEMORY`.

    Args:
        tokens: what the tokenizer calls its special tokens: {"bos_token": "<s>", …}.

    Raises TemplateError where it cannot be used.
    """
    return _learn(template, tuple(sorted(tokens.items())))


@cache
def _learn(template: str, tokens: tuple[tuple[str, str], ...]) -> Manners:
    command = [sys.executable, "-I", "-c", PROGRAM, str(Path(__file__).parents[2])]
    given = json.dumps({"template": template, "tokens": dict(tokens)})
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=30 * SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TemplateError("does not come to an end") from None
    if done.returncode < 0:
        raise TemplateError(f"does not come to an end within {SECONDS} seconds")
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise TemplateError(answer["error"])
    return Manners(**answer)


def main() -> None:
    """The process of `learn`: a template on standard input, its manners on standard output."""
    import resource

    given = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        answer = asdict(manners(sandboxed(given["template"], given["tokens"])))
    except TemplateError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"needs more than {MEMORY / 2**30:g} GiB of memory"}
    json.dump(answer, sys.stdout)


def sandboxed(template: str, tokens: Mapping[str, str]) -> Render:
    """A template as transformers renders it, with its tags and functions. Raises TemplateError."""
    from jinja2 import ext, nodes
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """The tag that marks answers in some templates; it writes nothing."""

        tags = {"generation"}  # noqa: RUF012 (jinja2's own attribute)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    with _in_words():
        compiled = environment.from_string(template)

    def render(turns: Turns, *, generation: bool) -> str:
        given = {**tokens, **PINNED, "messages": turns, "add_generation_prompt": generation}
        with _in_words():
            return compiled.render(tools=None, documents=None, **given)

    return render


def _refuse(message: str) -> None:
    raise TemplateError(f"says: {message}")


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


@contextmanager
def _in_words() -> Iterator[None]:
    """Whatever a template raises, as a TemplateError."""
    try:
        yield
    except (TemplateError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TemplateError(f"fails: {text or type(error).__name__}") from None
