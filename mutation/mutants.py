"""What can be changed in a module: one small change each, which the tests should notice."""

import ast
import copy
from collections import Counter
from functools import cached_property
from pathlib import Path

import attrs

# What type checkers read, and what is missed at once where it is missing.
IGNORED_DECORATORS = {
    *("abstractmethod", "asynccontextmanager", "classmethod", "contextmanager", "final"),
    *("overload", "override", "property", "runtime_checkable", "setter", "staticmethod"),
}
OF_TYPES = {"NewType", "ParamSpec", "TypeVar", "TypeVarTuple", "cast"}
OPPOSITES = {
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
NEIGHBOURS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitAnd,
}


@attrs.frozen
class Mutant:
    """One change of one module."""

    module: str  # its path in the package
    function: str  # the name with which one finds it in the module, or "" at its top
    line: str  # the line that is changed, stripped
    change: str  # what is changed in it, in words
    nth: int  # of those that all this is true of, from 1 on
    number: int = attrs.field(eq=False)  # of the line, at present
    lines: frozenset[int] = attrs.field(eq=False)  # a test that runs one of these may notice it
    body: range = attrs.field(eq=False)  # of the function, where it is in one
    start: int = attrs.field(eq=False)  # where in the source, in bytes
    end: int = attrs.field(eq=False)
    new: str = attrs.field(eq=False)  # what is there instead

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What names it as long as nobody touches the line."""
        return self.module, self.function, self.line, self.change, self.nth

    def apply(self, source: str) -> str:
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.end :]).decode()


def mutants_of(path: Path, package: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    source = path.read_text(encoding="utf-8")
    finder = Finder(path.relative_to(package).as_posix(), source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda mutant: (mutant.start, mutant.end))


class Finder(ast.NodeVisitor):
    """Walks through a module and notes what can be changed where."""

    def __init__(self, module: str, source: str) -> None:
        self.module = module
        self.source = source
        self.found: list[Mutant] = []
        self.seen: Counter[tuple[str, ...]] = Counter()
        self.names: list[str] = []  # of the classes and functions around
        self.functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self.statement: ast.stmt | None = None
        self.conditions: set[ast.expr] = set()

    @cached_property
    def rows(self) -> list[bytes]:
        return self.source.encode().splitlines(keepends=True)

    @cached_property
    def starts(self) -> list[int]:
        starts = [0]
        for row in self.rows:
            starts.append(starts[-1] + len(row))
        return starts

    # Noting

    def note(self, node: ast.expr | ast.stmt, new: str, change: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        self.note_at(start, end, node.lineno, node.end_lineno, new, change)

    def note_at(self, start: int, end: int, first: int, last: int, new: str, change: str) -> None:
        function = ".".join(self.names)
        line = self.rows[first - 1].decode().strip()
        self.seen[function, line, change] += 1
        lines = set(range(first, last + 1))
        if self.statement is not None:
            lines.add(self.statement.lineno)
        self.found.append(
            Mutant(
                self.module,
                function,
                line,
                change,
                self.seen[function, line, change],
                first,
                frozenset(lines),
                self.body(),
                start,
                end,
                new,
            )
        )

    def body(self) -> range:
        if not self.functions:
            return range(0)
        body = self.functions[-1].body
        assert body[-1].end_lineno is not None
        return range(body[0].lineno, body[-1].end_lineno + 1)

    def replace(self, node: ast.expr, new: ast.expr) -> None:
        text = ast.unparse(new)
        self.note(node, f"({text})", f"`{ast.unparse(node)}` → `{text}`")

    def leave_out(self, node: ast.stmt, instead: str = "pass") -> None:
        self.note(node, instead, "left out")

    # Statements

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            outer, self.statement = self.statement, node
            super().visit(node)
            self.statement = outer
        else:
            super().visit(node)

    def visit_body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_decorators(node)
        self.names.append(node.name)
        self.visit_body(node.body)
        self.names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if any(name_of(decorator) == "overload" for decorator in node.decorator_list):
            return
        self.names.append(node.name)
        self.functions.append(node)
        self.visit_decorators(node)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self.visit_body(node.body)
        self.functions.pop()
        self.names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_decorators(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            if name_of(decorator) in IGNORED_DECORATORS:
                continue
            if isinstance(decorator, ast.Call) and isinstance(node, ast.ClassDef):
                self.visit_Call(decorator)  # what it is told; a class without it is none
            elif not isinstance(node, ast.ClassDef):
                assert decorator.end_lineno is not None
                assert decorator.end_col_offset is not None
                start = self.starts[decorator.lineno - 1]
                start += self.rows[decorator.lineno - 1].index(b"@")
                end = self.starts[decorator.end_lineno - 1] + decorator.end_col_offset
                lines = decorator.lineno, decorator.end_lineno
                self.note_at(start, end, *lines, "", "left out")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring, or an ellipsis
        if self.functions and not isinstance(node.value, ast.Yield):
            self.leave_out(node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        targets = {ast.unparse(target) for target in node.targets}
        if "__all__" in targets or "__slots__" in targets or is_of_types(node.value):
            return
        # Whoever reads a name that was never bound notices that; not so with a new value.
        rebinds = isinstance(node.value, ast.Constant) or not all(
            isinstance(target, ast.Name | ast.Tuple) for target in node.targets
        )
        if self.functions and rebinds:
            self.leave_out(node)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None or ast.unparse(node.annotation).endswith("TypeAlias"):
            return
        if self.functions and not isinstance(node.target, ast.Name):
            self.leave_out(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.leave_out(node)
        if other := ARITHMETIC.get(type(node.op)):
            new = copy.copy(node)
            new.op = other()
            text = ast.unparse(new)
            self.note(node, text, f"`{ast.unparse(node)}` → `{text}`")
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        if self.functions:
            self.leave_out(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.leave_out(node)
        if node.cause is not None:
            self.note(node, ast.unparse(ast.Raise(exc=node.exc)), "`from` left out")
        if node.exc is not None:
            self.visit(node.exc)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.leave_out(node)
        else:
            if not (isinstance(node.value, ast.Constant) and not node.value.value):
                self.note(node, "return None", "returns None")
            self.visit(node.value)

    def visit_Break(self, node: ast.Break) -> None:
        self.leave_out(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.leave_out(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """For type checkers."""

    def visit_If(self, node: ast.If) -> None:
        if name_of(node.test) == "TYPE_CHECKING":
            return self.visit_body(node.orelse)
        self.visit_condition(node.test)
        self.visit_body(node.body)
        return self.visit_body(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self.visit_condition(node.test)
        self.visit_body(node.body)
        self.visit_body(node.orelse)

    def visit_For(self, node: ast.For) -> None:
        self.note(node.iter, "()", f"`{ast.unparse(node.iter)}` → `()`")
        self.generic_visit(node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        if all(item.optional_vars is None for item in node.items):
            last = node.items[-1].context_expr
            assert last.end_lineno is not None
            assert last.end_col_offset is not None
            start = self.starts[node.lineno - 1] + node.col_offset
            end = self.starts[last.end_lineno - 1] + last.end_col_offset
            # What may be in parentheses around the items needs no ending of its own.
            rest = self.source.encode()[end : self.starts[node.body[0].lineno - 1]]
            end += max(rest.find(b":"), 0)
            change = f"`{', '.join(ast.unparse(item) for item in node.items)}` left out"
            self.note_at(start, end, node.lineno, last.end_lineno, "if True", change)
        for item in node.items:
            self.visit(item.context_expr)
        self.visit_body(node.body)

    visit_AsyncWith = visit_With

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.note(node.type, "()", f"`{ast.unparse(node.type)}` → `()`")
        self.visit_body(node.body)

    # Expressions

    def visit_condition(self, node: ast.expr) -> None:
        """One that decides what runs."""
        opposite = isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITES
        if not (opposite or is_not(node) or isinstance(node, ast.BoolOp | ast.Constant)):
            self.replace(node, ast.UnaryOp(ast.Not(), node))
        self.visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit_condition(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for each in node.ifs:
            self.visit_condition(each)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub):
            self.replace(node, node.operand)
        self.visit(node.operand)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self.replace(node, ast.BoolOp(other, node.values))
        for value in node.values:
            rest = [each for each in node.values if each is not value]
            self.replace(node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
            self.visit(value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, op in enumerate(node.ops):
            if other := (OPPOSITES | NEIGHBOURS).get(type(op)):
                ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                self.replace(node, ast.Compare(node.left, ops, node.comparators))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if other := ARITHMETIC.get(type(node.op)):
            self.replace(node, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if is_of_types(node):
            for argument in node.args[1:]:  # that of `cast`
                self.visit(argument)
            return
        for keyword in node.keywords:
            if keyword.arg == "init":
                continue  # of an attrs field: whoever gave it a value would hear of it from mypy
            if keyword.arg is not None and not is_flag(keyword.value):
                rest = [each for each in node.keywords if each is not keyword]
                call = ast.unparse(ast.Call(node.func, node.args, rest))
                self.note(node, call, f"`{ast.unparse(keyword)}` left out")
            self.visit(keyword.value)
        for part in (node.func, *node.args):
            self.visit(part)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            return  # as in dict["Task", None]
        if isinstance(node.value, ast.Name) and node.value.id in {"dict", "list", "set", "deque"}:
            return
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace(node, ast.Constant(not value))
        elif isinstance(value, int | float):
            self.replace(node, ast.Constant(value + 1))
        elif isinstance(value, str):
            self.note(node, '"XX"', "a text → `'XX'`")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.note(node, '"XX"', "a text → `'XX'`")


def name_of(node: ast.expr) -> str:
    """The last name of what is named or called."""
    if isinstance(node, ast.Call):
        return name_of(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_of_types(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and name_of(node) in OF_TYPES


def is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
