"""The page of the documentation, what was measured in it, and a row in the README.

A block begins with `<!-- measured: name -->` and ends with `<!-- measured: end -->`.
"""

import re
from pathlib import Path
from statistics import median

import profiles
from aims import beside
from points import point
from report import aims_table, header, number, section_tables

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
README = DOCS.parent / "README.md"

# The cases of its last row: the first of each that the peer has.
IN_README = [("map",), ("imap_unordered", "green_imap"), ("spawn",)]
NONE = "\N{EN DASH}"


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
    README.write_text(fill_row(README.read_text(encoding="utf-8"), figures), encoding="utf-8")


def fill(text, blocks):
    """The page, with new blocks in place of the old."""
    for name, block in blocks.items():
        mark, end = f"<!-- measured: {name} -->", "<!-- measured: end -->"
        text = replace_once(text, f"{mark}.*?{end}", f"{mark}\n\n{block}\n{end}", mark)
    return text


def fill_row(text, figures):
    """The README, with the times of those in its table, in units of ours."""
    ours = " · ".join(["1"] * len(IN_README))
    cells = ["Time for a call: `map` · iterator · `spawn` and `join`", ours]
    for peer in ("gevent", "eventlet", "trio", "aiometer"):
        times = []
        for cases in IN_README:
            ratios = [beside(peer, point(case)).of(figures) for case in cases]
            found = next(filter(None, ratios), None)
            times.append(number(1 / median(found)) if found else NONE)
        cells.append(" · ".join(times))
    row = f"| {' | '.join(cells)} |"
    return replace_once(text, r"^\| Time for a call: [^\n]*$", row, "row with the times of calls")


def replace_once(text, pattern, new, name):
    text, found = re.subn(pattern, lambda _: new, text, flags=re.DOTALL | re.MULTILINE)
    if found != 1:
        raise ValueError(f"there should be one {name}, and there are {found}")
    return text
