"""What was measured, in Markdown and in JSON: the ratios first, then figures with their spread."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from aims import beside
from peers import OURS, PEERS
from points import CASES, Point, differing, shared

NOTHING = "-"


def machine(peers):
    """What the figures depend on besides the code."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {processor()}",
        "versions": list(dict.fromkeys(v for peer in peers for v in PEERS[peer].versions())),
    }


def processor():
    """Its name, if the system tells it, and how many this process may use."""
    name = platform.processor()
    if sys.platform == "linux":
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in info if "model name" in line), name)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{count} CPUs {name}".rstrip()


def header(about):
    python, system, date = about["python"], about["system"], about["date"]
    return f"{python}; {', '.join(about['versions'])}. {system}. {date}."


def table(head, rows):
    """A table in Markdown that is legible as it is: the first column to the left."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells):
        first, *rest = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(map(line, [head, rule, *rows])) + "\n"


def number(value):
    """A number with about three digits."""
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def ratio(values):
    return number(median(values)) if values else NOTHING


def figure(values):
    """The median, and the quartiles around it in percent."""
    if not values:
        return NOTHING
    low, middle, high = quartiles(values)
    spread = f" ±{(high - low) / 2 / middle:.0%}" if len(values) > 1 and middle else ""
    return number(middle) + spread


def quartiles(values):
    return quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def aims_table(aims, figures):
    """Which aims are met; those that were not measured are left out."""
    head = ["triopool's figure / that of another", "at most", "measured", ""]
    rows = []
    for aim in aims:
        if values := aim.ratio.of(figures):
            verdict = "met" if median(values) <= aim.at_most else "missed"
            rows.append([str(aim.ratio), number(aim.at_most), ratio(values), verdict])
    return table(head, rows) if rows else ""


def section_tables(section, figures):
    """The ratios and the figures of a section, under its title."""
    points = section.points
    peers = [peer for peer in PEERS if any((peer, point) in figures for point in points)]
    if not peers:
        return ""
    labels = [
        ", ".join([f"{CASES[point.case].label}, {CASES[point.case].unit}", *point.settings(apart)])
        for apart in [differing(points)]
        for point in points
    ]
    parts = [f"### {section.title}\n"]
    if together := ", ".join(points[0].settings(shared(points))):
        parts.append(f"{together[0].upper()}{together[1:]}.\n")
    others = [peer for peer in peers if peer != OURS]
    rows = [
        [text, *(ratio(beside(peer, point).of(figures)) for peer in others)]
        for text, point in zip(labels, points, strict=True)
        if (OURS, point) in figures and CASES[point.case].meter != "peak"
    ]
    if others and rows:
        parts.append(table(["triopool's figure by that of", *others], rows))
    rows = [
        [text, *(figure(figures.get((peer, point))) for peer in peers)]
        for text, point in zip(labels, points, strict=True)
    ]
    parts.append(table(["figures", *peers], rows))
    return "\n".join(parts)


def as_json(about, figures, aims):
    return {
        "about": about,
        "figures": [
            {"peer": peer, **vars(point), "unit": CASES[point.case].unit, "values": values}
            for (peer, point), values in figures.items()
        ],
        "aims": [
            {"aim": str(aim.ratio), "at_most": aim.at_most, "measured": median(values)}
            for aim in aims
            if (values := aim.ratio.of(figures))
        ],
    }


def from_json(data):
    """(about, figures), as they were."""
    return data["about"], {
        (row["peer"], Point(*(row[name] for name in Point.__annotations__))): row["values"]
        for row in data["figures"]
    }
