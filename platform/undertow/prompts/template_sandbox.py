"""Tests a model's chat template in a sandbox when a study is planned, without importing transformers.

A template is a program from an untrusted source. It is rendered in jinja2's sandbox, as transformers does,
and in a separate process with limited time and memory: the sandbox blocks access to files and functions, but
not infinite loops.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from undertow.prompts.chat_templates import (
    PINNED,
    SWITCHES,
    Render,
    TemplateBehaviour,
    TemplateError,
    Turns,
    behaviour,
)

SECONDS = 2  # limit of processor time
MEMORY = 2**30  # limit of the address space in bytes
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from undertow.prompts.template_sandbox import main; main()"
)


def inspect_template(template: str, tokens: Mapping[str, str]) -> TemplateBehaviour:
    """Determines a template's behaviour in a separate process, within `SECONDS` and `MEMORY`.

    Args:
        tokens: the tokenizer's special tokens by name: {"bos_token": "<s>", …}.

    Raises TemplateError if the template cannot be used.
    """
    return _inspect(template, tuple(sorted(tokens.items())))


@cache
def _inspect(template: str, tokens: tuple[tuple[str, str], ...]) -> TemplateBehaviour:
    command = [sys.executable, "-I", "-c", PROGRAM, str(Path(__file__).parents[2])]
    given = json.dumps({"template": template, "tokens": dict(tokens)})
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=30 * SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TemplateError("does not terminate") from None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):  # a system without memory kills as well
        raise TemplateError(f"does not terminate within {SECONDS} seconds, or needs too much memory")
    if done.returncode < 0:
        raise TemplateError(f"ends its process ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise TemplateError(answer["error"])
    return TemplateBehaviour(**answer)


def main() -> None:
    """Entry point of the separate process: reads a template from stdin, writes its behaviour to stdout."""
    import resource

    given = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        answer = asdict(_behaviour(given["template"], given["tokens"]))
    except TemplateError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"needs more than {MEMORY / 2**30:g} GiB of memory"}
    json.dump(answer, sys.stdout)


def _behaviour(template: str, tokens: Mapping[str, str]) -> TemplateBehaviour:
    switched = {
        name: (sandboxed(template, tokens, {name: more}), sandboxed(template, tokens, {name: less}))
        for name, (more, less) in SWITCHES.items()
        if name in template
    }
    return behaviour(sandboxed(template, tokens), switched)


def sandboxed(template: str, tokens: Mapping[str, str], settings: Mapping[str, Any] | None = None) -> Render:
    """Compiles a template as transformers does, with the same tags and functions.

    Args:
        settings: values of variables, in addition to the pinned ones or instead of them.

    Raises TemplateError for a template that cannot be compiled.
    """
    from jinja2 import ext, nodes
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """The `generation` tag of transformers, which marks answers in some templates and writes nothing."""

        tags = {"generation"}  # noqa: RUF012 (jinja2's own attribute)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    with _as_template_error():
        compiled = environment.from_string(template)

    def render(turns: Turns, *, generation: bool) -> str:
        given = {**tokens, **PINNED, **(settings or {}), "messages": turns}
        with _as_template_error():
            return compiled.render(tools=None, documents=None, add_generation_prompt=generation, **given)

    return render


def _refuse(message: str) -> None:
    raise TemplateError(f"says: {message}")


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


@contextmanager
def _as_template_error() -> Iterator[None]:
    """Converts any exception that a template raises into a TemplateError."""
    try:
        yield
    except (TemplateError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise TemplateError(f"fails: {text or type(error).__name__}") from None
