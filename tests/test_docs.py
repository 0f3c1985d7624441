"""README and docs: each program in them runs, and prints what the page says."""

import re
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

import triopool

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# A program; `<!-- skip: reason -->` before it leaves it out, and what it prints may follow it.
BLOCK = re.compile(
    r"(?:^<!-- skip: (?P<skip>.+) -->\n+)?"
    r"^```python\n(?P<source>.*?)^```$"
    r"(?:\n+<!-- output -->\n+```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Program:
    page: Path
    line: int
    source: str
    output: str | None
    skip: str | None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def programs_of(page: Path) -> list[Program]:
    text = page.read_text(encoding="utf-8")
    return [
        Program(
            page,
            text.count("\n", 0, match.start("source")) + 1,
            match["source"],
            match["output"],
            match["skip"],
        )
        for match in BLOCK.finditer(text)
    ]


PROGRAMS = [program for page in PAGES for program in programs_of(page)]


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.name for program in PROGRAMS])
def test_a_program_in_the_documentation_runs_and_prints_what_the_page_says(
    program: Program, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if program.skip:
        pytest.skip(program.skip)
    # Its seconds pass at once, and nothing that is slow here can change what it prints.
    monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    # Tracebacks show the lines of the page.
    code = compile("\n" * (program.line - 1) + program.source, program.page, "exec")
    exec(code, {"__name__": "__main__"})
    printed = capsys.readouterr()
    assert printed.err == ""
    if program.output is None:
        assert printed.out == "", "what it prints belongs on the page"
    else:
        assert printed.out == program.output


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_no_program_and_no_output_of_a_page_is_overlooked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    programs = programs_of(page)
    assert len(re.findall(r"^\s*(?:```|~~~|:::)\s*\{?(?:python|py)\b", text, re.MULTILINE)) == len(
        programs
    )
    assert text.count("<!-- output -->") == sum(p.output is not None for p in programs)
    assert text.count("<!-- skip") == sum(p.skip is not None for p in programs)


def test_the_readme_has_programs() -> None:
    assert len(programs_of(ROOT / "README.md")) > 3


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. auto\w+:: ([\w.]+)", text, re.MULTILINE)
    names = [f"Group.{name}" for name in dir(triopool.Group) if not name.startswith("_")]
    assert {*triopool.__all__, *names} <= set(shown)
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
