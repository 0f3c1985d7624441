"""The picture: a panel for each case, and in it a bar for each peer."""

import matplotlib as mpl
from matplotlib.figure import Figure
from peers import OURS, PEERS
from points import CASES, differing
from report import number, quartiles

OUR_COLOUR, THEIR_COLOUR, INK = "#1f7a8c", "#b8bec4", "#6b7280"  # legible on white and on black
COLUMNS = 3


def draw(path, sections, figures):
    """Draw the figures of some sections as an SVG, with a panel for each point."""
    # Text stays text, and the same figures make the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "triopool"})
    panels = [
        (point, point.settings(differing([point, section.points[0]])), values)
        for section in sections
        for point in section.points
        if (values := {peer: figures[peer, point] for peer in PEERS if (peer, point) in figures})
    ]
    bars = max(len(values) for _, _, values in panels)
    rows = -(-len(panels) // COLUMNS)
    picture = Figure(figsize=(11, rows * (0.5 + 0.22 * bars)), layout="constrained")
    axes = picture.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, (point, settings, values) in zip(axes, panels, strict=False):
        case = CASES[point.case]
        title = ", ".join([f"{case.label} ({case.unit})", *settings])
        axis.set_title(title, color=INK, fontsize=9, loc="left")
        draw_panel(axis, values)
        axis.set_ylim(bars - 0.4, -0.6)  # from the top, and all bars as thick
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    picture.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def draw_panel(axis, values):
    middles, below, above = [], [], []
    for each in values.values():
        low, middle, high = quartiles(each)
        middles.append(middle)
        below.append(middle - low)
        above.append(high - middle)
    bars = axis.barh(
        list(values),
        middles,
        xerr=[below, above],
        color=[OUR_COLOUR if peer == OURS else THEIR_COLOUR for peer in values],
        error_kw={"ecolor": INK, "elinewidth": 1},
    )
    labels = [number(middle) for middle in middles]
    axis.bar_label(bars, labels, padding=4, color=INK, fontsize=8)
    axis.margins(x=0.15)
    axis.set_xlim(left=0)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)
