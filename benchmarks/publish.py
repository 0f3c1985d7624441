"""The page of the documentation: what was measured, between marks in its text.

A block begins with `<!-- measured: name -->` and ends with `<!-- measured: end -->`.
"""

import re
from pathlib import Path

import profiles
from report import aims_table, header, section_tables

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"


def publish(about, figures, sections, aims, picture):
    """Put all of it into the page, with a profile that is taken now."""
    tables = [section_tables(section, figures) for section in sections]
    blocks = {
        "about": header(about) + "\n",
        "aims": aims_table(aims, figures),
        "tables": "\n".join(filter(None, tables)),
        "profile": profiles.report(20_000),
    }
    page = fill(PAGE.read_text(encoding="utf-8"), blocks)
    PAGE.write_text(page, encoding="utf-8")
    PICTURE.write_bytes(picture.read_bytes())


def fill(text, blocks):
    """The text, with new blocks in place of the old."""
    for name, block in blocks.items():
        mark = f"<!-- measured: {name} -->"
        pattern = re.compile(f"{re.escape(mark)}.*?<!-- measured: end -->", re.DOTALL)
        new = f"{mark}\n\n{block}\n<!-- measured: end -->"
        text, found = pattern.subn(lambda _, new=new: new, text)
        if found != 1:
            raise ValueError(f"the page should have one block {mark}, and has {found}")
    return text
