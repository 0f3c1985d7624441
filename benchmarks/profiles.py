"""Where the time goes: cases of triopool under cProfile, by module and by function.

A profiler makes each call dearer, so small functions look dearer than they are; the figures of the
benchmark are taken without it.
"""

import pstats
from cProfile import Profile
from pathlib import Path

from points import CASES, point
from report import NOTHING, table

PROFILED = ("map", "imap_unordered", "spawn")
SHOWN = 12  # modules, and functions


def place(path):
    """The module of a file, as a reader knows it."""
    import trio

    import triopool

    roots = [Path(package.__file__).parents[1] for package in (triopool, trio)]
    for root in [*roots, Path(__file__).parent]:
        if Path(path).is_relative_to(root):
            return Path(path).relative_to(root).with_suffix("").as_posix()
    return "Python" if path == "~" else Path(path).stem


def profile(case, items):
    """{(module, function): (calls, seconds of its own)}."""
    from loops import trio as loop
    from peers import triopool as peer

    settings = point(case)
    function = getattr(peer, CASES[case].function)

    async def main():
        await function(loop.checkpoint, settings.size, items // 10)
        with Profile() as profiler:
            await function(loop.checkpoint, settings.size, items)
        return profiler

    stats = pstats.Stats(loop.run(main)).stats
    spent = {}
    for (path, _, name), (_, calls, seconds, *_) in stats.items():
        key = (place(path), name)
        before = spent.get(key, (0, 0.0))
        spent[key] = before[0] + calls, before[1] + seconds
    return spent


def report(items):
    """Two tables: the shares of modules in each case, and those of functions."""
    profiles = {case: profile(case, items) for case in PROFILED}
    labels = [CASES[case].label for case in PROFILED]
    by_module, by_function = {}, {}
    for case, spent in profiles.items():
        total = sum(seconds for _, seconds in spent.values())
        for (module, name), (calls, seconds) in spent.items():
            shares = by_module.setdefault(module, dict.fromkeys(PROFILED, 0))
            shares[case] += seconds / total
            cells = by_function.setdefault(f"`{module}: {name}`", {})
            cells[case] = (seconds / total, calls / items)
    modules = sorted(by_module.items(), key=lambda item: -max(item[1].values()))[:SHOWN]
    functions = sorted(by_function.items(), key=lambda item: -max(s for s, _ in item[1].values()))
    return "\n".join(
        [
            table(
                ["share of the time in a module", *labels],
                [[name, *(f"{share:.0%}" for share in row.values())] for name, row in modules],
            ),
            table(
                ["share of the time in a function, and its calls for an item", *labels],
                [
                    [name, *(cell(row.get(case)) for case in PROFILED)]
                    for name, row in functions[:SHOWN]
                ],
            ),
        ]
    )


def cell(found):
    return f"{found[0]:.0%}, {found[1]:.2g}" if found else NOTHING
