"""The changes that a Python module offers, found in its syntax tree and made in its text.

Left alone, because nobody means to test them: annotations, docstrings, decorators, assertions, whether zip() is strict,
the texts of messages (strings that are no names), debugging output, names of types, what a class leaves to those
derived from it.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tests.changes.change import Change

COMPARISONS: dict[type[ast.cmpop], tuple[tuple[str, type[ast.cmpop]], ...]] = {
    ast.Lt: (("boundary", ast.LtE), ("comparison", ast.GtE)),
    ast.LtE: (("boundary", ast.Lt), ("comparison", ast.Gt)),
    ast.Gt: (("boundary", ast.GtE), ("comparison", ast.LtE)),
    ast.GtE: (("boundary", ast.Gt), ("comparison", ast.Lt)),
    ast.Eq: (("comparison", ast.NotEq),),
    ast.NotEq: (("comparison", ast.Eq),),
    ast.Is: (("comparison", ast.IsNot),),
    ast.IsNot: (("comparison", ast.Is),),
    ast.In: (("comparison", ast.NotIn),),
    ast.NotIn: (("comparison", ast.In),),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
OPPOSITE = {"min": "max", "max": "min", "any": "all", "all": "any"}
NAME = re.compile(r"(?!utf-8$)[A-Za-z][\w.:/-]*")
"""Labels, keys, file names; other strings are texts. `utf-8_` would be the same to Python."""
TYPE = re.compile(r"[A-Z]+[a-z]\w*")
"""Names that are given to types, Record = dict[str, Any] or T = TypeVar("T")."""
SILENT = {"debug", "register", "reverse"}
"""Calls whose loss nobody counts as a defect in a figure."""


def changes_of(path: str, source: bytes) -> list[Change]:
    """Every change of the module, in a fixed order."""
    finder = Finder(path, source)
    finder.visit(ast.parse(source))
    return finder.found


class Finder(ast.NodeVisitor):
    """Collects the changes of one module."""

    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Change] = []
        self._path = path
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._scope = 0
        self._source = source
        self._attributes = attributes(ast.parse(source))

    def _add(self, kind: str, node: Any, new: ast.AST | str, end: Any = None) -> None:
        last = end or node
        start = self._lines[node.lineno - 1] + node.col_offset
        stop = self._lines[last.end_lineno - 1] + last.end_col_offset
        text = new if isinstance(new, str) else ast.unparse(new)
        if not isinstance(new, str) and isinstance(node, (ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp)):
            text = f"({text})"
        self.found.append(Change(self._path, kind, start, stop, text.encode(), self._scope))

    def _altered(self, node: ast.AST, **fields: Any) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    # what is left alone, and scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        body = without_docstring(node.body)
        if not body:
            return  # of a Protocol: what it says by default nobody gets
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        outer, self._scope = self._scope, min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if not returns_value(node) and len(body) > 1:
            self._add("return early", body[0], "return", body[0])
        for statement in body:
            self.visit(statement)
        self._scope = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in without_docstring(node.body):
            self.visit(statement)

    def visit_Module(self, node: ast.Module) -> None:
        for statement in without_docstring(node.body):
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self._condition(node.test)
            self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        del node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        del node  # its parts have no places of their own before Python 3.12

    # conditions

    def _condition(self, test: ast.expr) -> None:
        if not isinstance(test, (ast.Compare, ast.BoolOp)) and not is_not(test) and not isinstance(test, ast.Constant):
            self._add("condition", test, f"(not {ast.unparse(test)})")

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            for kind, other in COMPARISONS[type(operator)]:
                self._add(kind, node, self._altered(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]]))
        self.visit(node.left)
        for operator, value in zip(node.ops, node.comparators, strict=True):
            is_set = isinstance(operator, (ast.In, ast.NotIn)) and isinstance(value, ast.Tuple)
            for part in ast.iter_child_nodes(value) if is_set else (value,):  # looked for in any order
                self.visit(part)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add("and, or", node, self._altered(node, op=other))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if is_not(node):
            self._add("removed not", node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    # values

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = ARITHMETIC.get(type(node.op))
        if other is not None and not any(is_text(side) for side in (node.left, node.right)):
            self._add("arithmetic", node, self._altered(node, op=other()))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("constant", node, repr(not node.value))
        elif isinstance(node.value, int):
            self._add("constant", node, repr(node.value + 1))
        elif isinstance(node.value, float):
            self._add("constant", node, repr(node.value * 1.05 or 0.05))
        elif isinstance(node.value, str) and NAME.fullmatch(node.value):
            self._add("name", node, repr(node.value + "_"))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names = self._attributes[ast.unparse(node.value)]
        if isinstance(node.ctx, ast.Load) and len(names) > 1:
            other = names[(names.index(node.attr) + 1) % len(names)]
            self._add("attribute", node, self._altered(node, attr=other))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in OPPOSITE:
            self._add("min, max, any, all", node.func, OPPOSITE[node.func.id])
        if isinstance(node.func, ast.Attribute) and node.func.attr == "debug":
            return
        if not (isinstance(node.func, ast.Name) and node.func.id in OPPOSITE):
            self._swaps(node.args)
        keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        self._swaps([keyword.value for keyword in keywords if keyword.arg])
        if isinstance(node.func, ast.Attribute):
            self.visit(node.func.value)  # another method's name is no plausible mistake
        for argument in (*node.args, *(keyword.value for keyword in keywords)):
            self.visit(argument)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        for statement in node.body:  # several exceptions are caught in any order
            self.visit(statement)

    def visit_Dict(self, node: ast.Dict) -> None:
        self._swaps([value for key, value in zip(node.keys, node.values, strict=True) if key is not None])
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        if isinstance(node.ctx, ast.Load):
            self._swaps(node.elts)
        self.generic_visit(node)

    def _swaps(self, values: Sequence[ast.expr]) -> None:
        """Two neighbors change places."""
        for one, two in itertools.pairwise(values):
            first, second = self._text(one), self._text(two)
            if first != second and not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred):
                between = self._source[self._at(one)[1] : self._at(two)[0]].decode()
                self._add("swap", one, second + between + first, two)

    def _at(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> str:
        start, end = self._at(node)
        return self._source[start:end].decode()

    # statements

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # documentation of the field above
        if isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") not in SILENT:
            self._add("dropped call", node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add("dropped statement", node, "pass")
        other = ARITHMETIC.get(type(node.op))
        if other is not None and not is_text(node.value):
            self._add("arithmetic", node, self._altered(node, op=other()))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        is_name = isinstance(target, ast.Name) and TYPE.fullmatch(target.id)
        if is_name and isinstance(node.value, (ast.Subscript, ast.Call)):
            return
        if self._scope and all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._add("dropped statement", node, "pass")
        self.generic_visit(node)

    def _dropped(self, node: ast.stmt) -> None:
        self._add("dropped statement", node, "pass")
        self.generic_visit(node)

    visit_Continue = visit_Break = visit_Delete = _dropped  # noqa: N815

    def visit_Raise(self, node: ast.Raise) -> None:
        if not (isinstance(node.exc, ast.Name) and node.exc.id == "NotImplementedError"):
            self._dropped(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        # None instead of False is the same wherever it is asked for
        is_none = isinstance(value, ast.Constant) and (value.value is None or value.value is False)
        if value is not None and not is_none:
            self._add("return nothing", node, "return None")
        self.generic_visit(node)


def attributes(tree: ast.AST) -> defaultdict[str, list[str]]:
    """The attributes that the module reads of each object, by the object's text; methods that it calls are none."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in called:
            found[ast.unparse(node.value)].add(node.attr)
    return defaultdict(list, {base: sorted(names) for base, names in found.items()})


def without_docstring(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The statements of a module, class or function behind its docstring."""
    first = body[0] if body else None
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if documented else body


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from own_nodes(child)


def returns_value(function: ast.FunctionDef) -> bool:
    """Whether the function gives anything to its caller."""
    return any(
        isinstance(node, (ast.Yield, ast.YieldFrom)) or (isinstance(node, ast.Return) and node.value is not None)
        for node in own_nodes(function)
    )


def is_not(node: ast.AST) -> bool:
    """Whether the expression is `not ...`."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def is_text(node: ast.AST) -> bool:
    """Whether the expression is surely a string or bytes: sums of these have no other arithmetic."""
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))
