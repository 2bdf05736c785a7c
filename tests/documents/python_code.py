"""Python in documents: it compiles, and what it takes from sn_deploy is there and takes what it is given."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.documents.markdown import Code, Document

PACKAGE = "sn_deploy"
# A name of the package in a sentence, or a call of one: sn_deploy.optimise.optimise("a.onnx", "b.onnx").
_DOTTED = re.compile(rf"{PACKAGE}(?:\.\w+)+(?:\(.*\))?")
# Of ONNX: a domain of operators, and a session's setting.
_OF_ONNX = frozenset({"sn_deploy.nchwc", "sn_deploy.providers"})
# Of a name that the document's own blocks have: engine.profiles. No file: report.html.
_EXPRESSION = re.compile(r"(\w+)[.(](?!(?:html|json|onnx|md|py|sh)$)")
_IMPORT = re.compile(rf"(?:from {PACKAGE}|import {PACKAGE})\b.*")


class UnknownError(Exception):
    """Something that the package doesn't have."""


@dataclass(frozen=True)
class _Instance:
    """What is known of a value: its class."""

    of: type


def faults(document: Document) -> Iterator[str]:
    """Each thing at which a reader who types the code would stop. What comes from elsewhere is taken as it is."""
    known: dict[str, Any] = {}  # by the document's blocks, for its sentences: engine.profiles
    for code in document.code:
        if code.language == "python":
            reader = _Reader({})
            yield from _faults_of(document, code, reader, code.text)
            known |= {name: value for name, value in reader.values.items() if value is not None}
    for code in document.code:
        if code.language is None and code.text not in _OF_ONNX:
            if _DOTTED.fullmatch(code.text):
                # A sentence names things by where they are; nobody has imported that before.
                modules = "".join(f", {name}" for name in _modules_within(code.text))
                yield from _faults_of(document, code, _Reader({}), f"import {PACKAGE}{modules}; {code.text}")
            elif _IMPORT.fullmatch(code.text):
                yield from _faults_of(document, code, _Reader({}), code.text)
            elif (found := _EXPRESSION.match(code.text)) and found[1] in known:
                yield from _faults_of(document, code, _Reader(known), code.text)


def _modules_within(dotted: str) -> list[str]:
    """The longest name of a module that a dotted name begins with."""
    parts = dotted.partition("(")[0].split(".")
    for end in range(len(parts), 1, -1):
        name = ".".join(parts[:end])
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        return [name]
    return []


def _faults_of(document: Document, code: Code, reader: _Reader, source: str) -> Iterator[str]:
    """Lets the reader read; an ellipsis stands for statements, or for a value or an argument."""
    place = document.path.name
    try:
        tree = ast.parse(re.sub(r"^…$|(?<=[=(])…", "...", source, flags=re.MULTILINE))
    except SyntaxError as error:
        yield f"{place}:{code.line + (error.lineno or 1) - 1}: {error.msg}: {error.text and error.text.strip()}"
        return
    for node in tree.body:
        reader.visit(node)
    for line, fault in reader.faults:
        yield f"{place}:{code.line + line - 1}: {fault}"


class _Reader(ast.NodeVisitor):
    """Follows values of the package through a block: its names, instances of its classes, what their methods give."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self.imported: set[str] = set()
        self.faults: list[tuple[int, str]] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] == PACKAGE and (module := self._module(alias.name, node)) is not None:
                self.values[alias.asname or PACKAGE] = module if alias.asname else importlib.import_module(PACKAGE)
                self.imported |= {alias.name}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module is None or node.module.partition(".")[0] != PACKAGE:
            return
        module = self._module(node.module, node)
        if module is None:
            return
        self.imported.add(node.module)
        for alias in node.names:
            try:
                self.values[alias.asname or alias.name] = getattr(module, alias.name)
            except AttributeError:
                found = self._module(f"{node.module}.{alias.name}", node, quiet=True)
                if found is None:
                    self.faults.append((node.lineno, f"{node.module} has no {alias.name}"))
                else:
                    self.values[alias.asname or alias.name] = found

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            self._assign(target, value)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            value = self._value(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, _entered(value))
        for statement in node.body:
            self.visit(statement)

    def visit_For(self, node: ast.For) -> None:
        self._value(node.iter)
        self._assign(node.target, None)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            self._value(decorator)
        for statement in node.body:
            self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self._value(node)
        else:
            super().generic_visit(node)

    def _module(self, name: str, node: ast.stmt, *, quiet: bool = False) -> Any:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            if not quiet:
                self.faults.append((node.lineno, f"there is no module {name}"))
            return None

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.values[target.id] = value
        else:
            # Names of what is taken apart, which isn't followed; or the attribute of something.
            for inner in ast.walk(target):
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    self.values[inner.id] = None
            self._value(target)

    def _value(self, node: ast.AST) -> Any:
        """What is known of an expression; None of what isn't the package's. Notes the faults in it."""
        if isinstance(node, ast.Name):
            return self.values.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._checked(node, lambda: self._attribute(self._value(node.value), node.attr))
        if isinstance(node, ast.Call):
            function = self._value(node.func)
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                self._value(argument)
            return self._checked(node, lambda: _called(function, node))
        for child in ast.iter_child_nodes(node):
            self._value(child)
        return None

    def _checked(self, node: ast.expr, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except UnknownError as error:
            self.faults.append((node.lineno, str(error)))
            return None

    def _attribute(self, owner: Any, name: str) -> Any:
        if inspect.ismodule(owner):
            full = f"{owner.__name__}.{name}"
            # A module in a package is an attribute once somebody has imported it, as some test before may have.
            found = vars(owner).get(name)
            hidden = hasattr(owner, "__path__") and (found is None or inspect.ismodule(found))
            imported = any(f"{one}.".startswith(f"{full}.") for one in self.imported)
            if hidden and not imported and importlib.util.find_spec(full) is not None:
                raise UnknownError(f"{full} is a module that isn't imported")
            try:
                return getattr(owner, name)
            except AttributeError as error:
                raise UnknownError(f"{owner.__name__} has no {name}") from error
        if isinstance(owner, _Instance):
            return _member(owner.of, name)
        return None


def _member(cls: type, name: str) -> Any:
    found = inspect.getattr_static(cls, name, None)
    if isinstance(found, property):
        return _instance_of(typing.get_type_hints(found.fget).get("return"))
    if found is not None and callable(getattr(cls, name)):
        return _Bound(cls, name)
    fields = {key: value for base in cls.__mro__ for key, value in _hints(base).items()}
    if name in fields:
        return _instance_of(fields[name])
    if found is None and not any(f"self.{name}" in _source(base) for base in cls.__mro__):
        raise UnknownError(f"{cls.__name__} has no {name}")
    return None


@dataclass(frozen=True)
class _Bound:
    """A method of an instance."""

    cls: type
    name: str


def _called(function: Any, call: ast.Call) -> Any:
    """Of a call: its result, where it can be told; refuses arguments that there are no parameters for."""
    bound = isinstance(function, _Bound)
    target = getattr(function.cls, function.name) if bound else function
    if target is None or isinstance(target, _Instance) or not callable(target):
        return None
    name = function.name if bound else getattr(target, "__name__", repr(target))
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    static = bound and isinstance(inspect.getattr_static(function.cls, function.name), staticmethod | classmethod)
    positional = [None] * (len(call.args) + (bound and not static))
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
    open_ended = any(isinstance(argument, ast.Starred) for argument in call.args) or len(keywords) < len(call.keywords)
    if open_ended:
        positional = []
    try:
        (signature.bind_partial if open_ended else signature.bind)(*positional, **keywords)
    except TypeError as error:
        raise UnknownError(f"{name}: {error}") from error
    if inspect.isclass(target):
        return _Instance(target)
    try:
        result = typing.get_type_hints(target).get("return")
    except (NameError, TypeError):
        return None
    return _instance_of(result)


def _entered(value: Any) -> Any:
    """What ``with VALUE as name`` gives the name: itself, of the package's own."""
    return value if isinstance(value, _Instance) and hasattr(value.of, "__enter__") else None


def _instance_of(hint: Any) -> _Instance | None:
    return _Instance(hint) if inspect.isclass(hint) and hint.__module__.partition(".")[0] == PACKAGE else None


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):
        return dict(getattr(cls, "__annotations__", {}))


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""
