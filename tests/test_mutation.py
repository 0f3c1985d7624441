"""Mutation testing: which mutants there are, who survives, and what is remembered of it."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "mutation"
sys.path.insert(0, str(HOME))
try:
    import harmless
    from mutants import mutants_of
finally:
    sys.path.remove(str(HOME))

PACKAGE = HOME.parent / "src" / "triopool"


@pytest.fixture
def changes(tmp_path):
    """`changes(source)`: the sources of all its mutants, in order."""

    def find(source):
        path = tmp_path / "module.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        found = mutants_of(path, tmp_path)
        assert len({mutant.key for mutant in found}) == len(found)
        return [mutant.apply(path.read_text(encoding="utf-8")) for mutant in found]

    return find


@pytest.mark.parametrize(
    ("line", "mutants"),
    [
        ("f(x)", ["pass"]),
        ("del x[0]", ["pass"]),
        ("x.y = z", ["pass"]),
        ("x = z", []),  # whoever reads it would find no x
        ("x = None", ["pass"]),
        ("x += y", ["pass", "x -= y"]),
        ("await f()", ["pass"]),
        ("f(x, y=z)", ["pass", "f(x)"]),
        ("x = y < z", ["x = (y <= z)"]),
        ("x = y is z", ["x = (y is not z)"]),
        ("x = y + z", ["x = (y - z)"]),
        ("x = not y", ["x = (y)"]),
        ("x = y and z", ["x = (y or z)", "x = (z)", "x = (y)"]),
        ("x = y if z else 2", ["x = y if (not z) else 2", "x = y if z else (3)"]),
        ("x = f(True)", ["x = f((False))"]),
        ("x = 'text'", ["pass", 'x = "XX"']),
        ("x = f'{y}!'", ['x = "XX"']),
        ("x = cast('Task', y)", []),
        ("return", ["pass"]),
        ("return x", ["return None"]),
        ("return None", []),
        ("raise E(x) from y", ["pass", "raise E(x)"]),
        ("assert x is not None", []),
        ("x: int = y.z", []),
        ("x.y: int = z", ["pass"]),
    ],
)
def test_each_line_has_the_mutants_that_a_test_should_notice(line, mutants, changes):
    source = "async def g():\n    {}\n"
    assert sorted(changes(source.format(line))) == sorted(map(source.format, mutants))


@pytest.mark.parametrize(
    ("head", "mutants"),
    [
        ("if x:", ["if (not x):"]),
        ("if not x:", ["if (x):"]),
        ("if x == y:", ["if (x != y):"]),
        ("while x > y:", ["while (not x > y):", "while (x >= y):"]),
        ("while True:", ["while (False):"]),
        ("for x in y:", ["for x in ():"]),
        ("with x, y():", ["if True:"]),
        ("with x as y:", []),
        ("async with x:", ["if True:"]),
        ("if TYPE_CHECKING:", []),
    ],
)
def test_each_block_has_the_mutants_that_a_test_should_notice(head, mutants, changes):
    source = "async def g():\n    {}\n        x = y\n"
    assert sorted(changes(source.format(head))) == sorted(map(source.format, mutants))


def test_a_decorator_and_a_handler_can_go_and_what_only_types_are_for_cannot(changes):
    source = """
        @enable_ki_protection
        def f(x: "int" = 0) -> "int":
            \"""Text.\"""
            try:
                x = f()
            except E:
                x = g()

        @overload
        def f(x: int) -> int: ...

        @property
        def g(): ...
    """
    whole = textwrap.dedent(source)
    assert changes(source) == [
        whole.replace("@enable_ki_protection", ""),
        whole.replace("= 0", "= (1)"),
        whole.replace("except E", "except ()"),
    ]


def test_a_mutant_keeps_its_name_when_other_lines_come_and_go(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f():\n    return x\n")
    (before,) = mutants_of(path, tmp_path)
    path.write_text("import x\n\n\ndef f():\n    g = x\n    return x\n")
    (after,) = mutants_of(path, tmp_path)
    assert after.key == before.key
    assert (before.number, after.number) == (2, 6)


def test_the_list_names_what_a_mutant_is_called(tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text("def f():\n    g(1, 1)\n    g(1, 1)\n")
    found = mutants_of(path, tmp_path)
    entries = "\n".join(harmless.entry(mutant, f"line {mutant.number}") for mutant in found)
    listed = tmp_path / "harmless.toml"
    listed.write_text(entries, encoding="utf-8")
    monkeypatch.setattr(harmless, "PATH", listed)
    assert harmless.read() == {mutant.key: f"line {mutant.number}" for mutant in found}
    listed.write_text(entries.replace("line 3", "?"), encoding="utf-8")
    with pytest.raises(ValueError, match="without a reason"):
        harmless.read()


def test_every_entry_of_the_list_has_a_reason_and_names_a_module():
    for module, *_ in harmless.read():
        assert (PACKAGE / module).is_file()


def mutation(*args):
    program = [sys.executable, str(HOME), *args]
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=HOME.parent)


def test_what_would_be_tried_can_be_listed_and_drawn():
    module = "src/triopool/_slots.py"
    done = mutation(module, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    whole = done.stdout.splitlines()
    drawn = [mutation(module, "--list", "--sample=9", "--seed", seed).stdout for seed in "112"]
    assert drawn[0] == drawn[1] != drawn[2]
    *some, count = drawn[0].splitlines()
    assert count == "9 mutants"
    assert set(some) < set(whole)
    assert all(line.startswith(f"{module}:") for line in some)


def test_what_is_no_module_is_told():
    done = mutation("tests/conftest.py")
    assert (done.returncode, done.stderr) == (1, "tests/conftest.py is no module of the package\n")
