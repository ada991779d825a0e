"""The hash of the source code of a spec class that a user defined, as part of the identity of its specs.

The developers of a class in the package `undertow` increase its `version` when its results change. Users edit
the traits, formats and judges in their study files without a version, and a sweep would silently reuse the
artifacts of the old code. For these classes, the identity therefore contains a hash of the class's code, and
of the code in the user's files that it depends on.

The hash covers the syntax tree of

- the top-level statement that defines the class, and
- every top-level function, class, constant and import of the same file that these statements mention by
  name, directly or through another one. A base class in the same file is mentioned by the class statement;
- base classes of the class that are specs in other files outside of the package;
- of a kind of artifact, the function that makes it (`add_source`), with what it mentions in its file.

What the statements import from modules next to the file is followed there; `import module` stands for the
whole module. Comments, formatting and docstrings do not change the hash, nor does code that the class does
not use. It does not cover other packages, imports with a star or a leading dot, imports inside of functions
and other statements, names that are only looked up at run time (`getattr`, `globals()`), and values that an
enclosing function passes to a class defined inside of it: give those as fields.
"""

import ast
import hashlib
import json
import sys
import tokenize
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from undertow.errors import SpecError
from undertow.study.fields import Spec
from undertow.study.user_modules import modules_next_to

PACKAGE = __name__.partition(".")[0]
HASH_DIGITS = 32
LAMBDA = "<lambda>"  # the name of every function without one
_ATTRIBUTE = "_source_hash"


def source_hash(kind: type) -> str:
    """The hash of a spec class's source code; "" for a class of the package itself.

    The hash is stored as an attribute of the class. Ray workers receive the classes of a study file by value,
    without their file, so they need the hash that the driver computed.

    Raises SpecError if the class has no source file, as in `python -c` and in an interactive session.
    """
    if _is_ours(kind):
        return ""
    cached: str | None = vars(kind).get(_ATTRIBUTE)  # not getattr, which finds the hash of a base class
    return cached if cached is not None else _hashed(kind)


def add_source(kind: type, maker: Callable[..., Any]) -> None:
    """Makes the source code of the function that makes a kind of artifact part of its class's source code."""
    while isinstance(maker, partial):
        maker = maker.func
    definition = maker if hasattr(maker, "__qualname__") else type(maker)
    if not _is_ours(kind) and not _is_ours(definition):
        _hashed(kind, definition)


def _hashed(kind: type, *others: Any) -> str:
    """The hash of a class's source code, and of other definitions, which is stored in the class."""
    bases = [source_hash(base) for base in kind.__bases__ if issubclass(base, Spec)]
    text = json.dumps([_definition(kind), bases, *map(_definition, others)])
    found = hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
    setattr(kind, _ATTRIBUTE, found)
    return found


def _is_ours(definition: Any) -> bool:
    return str(definition.__module__).partition(".")[0] == PACKAGE


def _definition(defined: Any) -> Any:
    """The definition of a class or function, and all that it depends on in the user's files, as JSON data."""
    module = sys.modules.get(defined.__module__)
    # A class inside a function or another class is covered by the whole top-level statement around it.
    name = defined.__qualname__.partition(".")[0]
    statements = _statements(module)
    path = getattr(module, "__file__", None)
    if path and name == LAMBDA:
        statements = {**statements, LAMBDA: _lambdas(path, defined.__code__.co_firstlineno)}
    if all(map(_is_import, statements.get(name, ()))):
        raise SpecError(
            f"{defined.__module__}.{defined.__qualname__}: its source code, which is part of the keys of its "
            f"artifacts, was not found in {path or 'any file'}; define the class with a class statement in a "
            "Python file (a study file, or a module that it imports)"
        )
    files = {defined.__module__: statements}
    near = {other.__name__: other for other in (modules_next_to(module) if module else ())}
    used = {(defined.__module__, name)}
    pending = list(used)
    while pending:
        place, name = pending.pop()
        mentioned = [(place, one) for one in _names(files[place][name])]
        for other, names in _imported(files[place][name], near):
            files.setdefault(other, _statements(near[other]))
            mentioned += [(other, one) for one in names or files[other]]
        for one in mentioned:
            if one[1] in files[one[0]] and one not in used:
                used.add(one)
                pending.append(one)
    own = defined.__module__
    return {
        name if place == own else f"{place}.{name}": [_json(node) for node in files[place][name]]
        for place, name in sorted(used)
    }


def _imported(
    statements: Iterable[ast.AST], modules: Collection[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Those of `modules` that imports refer to, each with the names that are imported; () for all names."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from ((alias.name, ()) for alias in statement.names if alias.name in modules)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if (inner := f"{statement.module}.{alias.name}") in modules:
                    yield inner, ()
                elif statement.module in modules:
                    yield statement.module, (alias.name,)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _statements(module: ModuleType | None) -> Mapping[str, list[ast.AST]]:
    """The top-level statements of a module by the names that they bind, in the order of its file.

    A name can be bound more than once. A compound statement (`if`, `try` …) belongs to every name in it, and
    one that changes an object in place to the object's name.
    """
    found: dict[str, list[ast.AST]] = {}
    path = getattr(module, "__file__", None)
    for statement in _tree(path).body if path else ():
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                bound = alias.asname or alias.name.partition(".")[0]
                found.setdefault(bound, []).append(_single_import(statement, alias))
        else:
            for name in dict.fromkeys(_bound(statement)):
                found.setdefault(name, []).append(statement)
    return found


def _lambdas(path: str, line: int) -> list[ast.AST]:
    """The lambda functions that begin in a line of a file."""
    return [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Lambda) and node.lineno == line]


def _tree(path: str) -> ast.Module:
    """The syntax tree of a file; without statements if it cannot be read."""
    try:
        with tokenize.open(path) as file:  # honours an encoding declaration, as the interpreter does
            return ast.parse(file.read())
    except (OSError, SyntaxError):
        return ast.Module([], [])


def _single_import(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.AST:
    """The import of one name: other names that the same statement imports are not part of it."""
    if isinstance(statement, ast.Import):
        return ast.Import([alias])
    return ast.ImportFrom(statement.module, [alias], statement.level)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines or assigns."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
        elif changed := _changed(node):
            yield changed
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _changed(node: ast.AST) -> str:
    """The name whose object a node changes (`NAME.x = …`, `NAME[…] = …`, `NAME.append(…)`), or ""."""
    match node:
        case (
            ast.Attribute(value=target, ctx=ast.Store() | ast.Del())
            | ast.Subscript(value=target, ctx=ast.Store() | ast.Del())
            | ast.Expr(value=ast.Call(func=ast.Attribute(value=target)))  # a call without a result
        ):
            while isinstance(target, ast.Attribute | ast.Subscript):
                target = target.value
            return target.id if isinstance(target, ast.Name) else ""
    return ""


def _names(statements: Iterable[ast.AST]) -> Iterator[str]:
    """All names that statements read, those in quoted annotations apart."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                yield node.id


def _json(node: Any) -> Any:
    """A syntax tree as JSON data, without positions, docstrings and other strings that stand alone.

    `ast.dump` is not used because its output differs between versions of Python. Empty fields are left out,
    since newer versions add some (`type_params` in 3.12).
    """
    if isinstance(node, list):
        return [_json(item) for item in node if not _is_string_statement(item)]
    if not isinstance(node, ast.AST):
        return repr(node)  # distinguishes 1, 1.0, True and "1"
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    if isinstance(node, ast.Constant):
        fields.pop("kind", None)  # the u of u"…"
    return [type(node).__name__, {name: _json(value) for name, value in fields.items()}]


def _is_string_statement(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
