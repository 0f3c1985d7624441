"""Measure triopool beside its peers, in one run: `nox -s bench`.

  nox -s bench                 all that the aims ask for, and more, in about five minutes
  nox -s bench -- quick        a first idea, in one to three
  nox -s bench -- --case map --peer triopool,gevent --size 10 --call socket --items 1000
  nox -s bench -- check        compare with the ratios that are kept; fails if one has got lost
  nox -s bench -- record       measure those ratios, and keep them
  nox -s bench -- profile      where the time goes
  nox -s bench -- publish      a full run, which fills the page and the picture of the docs

Peers take turns: each round has a process for each peer, and a point is measured in one after the
other. Figures and ratios are medians over the rounds, ± half the distance of the quartiles; a ratio
is taken in each round. pyperf would calibrate better, but measures one benchmark to its end before
the next, so that a slow minute of the machine would be charged to whoever had it.

Where nothing waits, time is that of the processor, which other programs disturb less; with servers
and threads it is that of the clock. A pool, its start and its end are part of what is measured; the
loop around it, and the connections of calls to a server, are not. The modules of `peers` show what
each does.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import check
import report
from aims import AIMS, guards, shrunk
from peers import PEERS
from points import CALLS, CASES, PLAN, QUICK, Section, point
from turns import installed, measure

HERE = Path(__file__).parent
MOST_CONNECTIONS = 500
BUDGETS = {"run": 270, "publish": 270, "quick": 45}  # seconds, after which no round begins


def names_of(known, what):
    def names(text):
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(
                f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return found

    return names


def positive(text):
    if not text.replace("_", "").isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on, and not {text!r}")
    return int(text)


def positives(text):
    return [positive(part) for part in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(
        prog="nox -s bench --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="run")
    some = parser.add_argument_group(
        "what to measure (lists with commas; each combination that makes sense)"
    )
    some.add_argument("--case", type=names_of(CASES, "case"), help=", ".join(CASES))
    some.add_argument("--call", type=names_of(CALLS, "call"), help=", ".join(CALLS))
    some.add_argument("--peer", type=names_of(PEERS, "peer"), help=", ".join(PEERS))
    some.add_argument("--size", type=positives, help="of the pools, or number of threads")
    some.add_argument("--items", type=positives)
    some.add_argument("--rounds", type=positive, help="by default 5; fewer for what is slow")
    parser.add_argument("--output", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--ratios", type=Path, default=HERE / "ratios.json")
    parser.add_argument("--from", type=Path, help="publish the JSON of an earlier run")
    return parser, parser.parse_args()


def chosen(parser, args):
    """The points that the options choose, in the order of the cases."""
    wanted = args.case or list(CASES)
    points = []
    for name in wanted:
        case = CASES[name]
        calls = [call for call in args.call or [None] if call is None or call in case.calls]
        if not calls and args.case and case.calls:
            parser.error(f"{name} has calls of {', '.join(case.calls)} only")
        if args.call and not case.calls and not args.case:
            continue
        # An import is repeated as ever; the number of items is no matter to it.
        items = [None] if name == "import" else args.items or [None]
        combined = product(calls or [None], args.size or [None], items)
        points += [point(name, *settings) for settings in combined]
    points = list(dict.fromkeys(points))
    if any(p.call == "socket" and p.size > MOST_CONNECTIONS for p in points):
        parser.error(f"calls to a server are for pools of at most {MOST_CONNECTIONS}")
    return points


def sections_of(parser, args):
    plan = QUICK if args.command == "quick" else PLAN
    if args.case or args.call or args.size or args.items:
        rounds = args.rounds or (3 if args.command == "quick" else 5)
        return [Section("As asked", chosen(parser, args), rounds)]
    if args.rounds:
        return [Section(s.title, s.points, args.rounds, s.peers) for s in plan]
    return plan


def run(parser, args):
    """Measure, print the tables, and write all of it to the output; `publish` also to the docs."""
    source = getattr(args, "from")
    if source:
        about, figures = report.from_json(json.loads(source.read_text(encoding="utf-8")))
        sections = PLAN
    else:
        sections = sections_of(parser, args)
        about, figures = measure_all(sections, args)
    aims = [shrunk(aim) for aim in AIMS] if args.command == "quick" else AIMS
    tables = [report.aims_table(aims, figures)]
    tables += [report.section_tables(section, figures) for section in sections]
    text = "\n".join(filter(None, tables))
    print(text)
    args.output.mkdir(parents=True, exist_ok=True)
    said = f"{report.header(about)}\n\n{text}"
    args.output.joinpath("figures.md").write_text(said, encoding="utf-8")
    data = json.dumps(report.as_json(about, figures, aims), indent=1) + "\n"
    args.output.joinpath("figures.json").write_text(data, encoding="utf-8")
    picture = draw(args.output / "bars.svg", sections, figures)
    if args.command == "publish":
        import publish

        publish.publish(about, figures, sections, aims, picture)
    print(f"All of it is in {args.output}.")


def measure_all(sections, args):
    wanted = args.peer or list(PEERS)
    peers = installed(wanted)
    about = report.machine(peers)
    print(report.header(about))
    for peer in wanted:
        if peer not in peers:
            print(f"{peer} is not installed, and left out")
    print(flush=True)
    budget = None if args.rounds else BUDGETS[args.command]
    return about, measure(sections, peers, budget)


def draw(picture, sections, figures):
    """Draw what was measured of the first sections, which are pools and threads unless chosen."""
    try:
        from chart import draw
    except ImportError:
        print("matplotlib is not installed: there is no picture")
        return None
    draw(picture, sections[:2], figures)
    return picture


def show_profile(parser, args):
    import profiles

    print(profiles.report(args.items[0] if args.items else 20_000))


def guard(parser, args):
    """`check` and `record`."""
    if args.command == "record":
        kept = dict.fromkeys(guards())
    elif not args.ratios.exists():
        parser.error(f"there is no {args.ratios}; `record` writes it")
    else:
        kept = check.load(args.ratios)
    if not kept:
        parser.error(f"{args.ratios} has nothing for {check.PYTHON}; `record` adds it")
    if args.case:
        kept = {ratio: value for ratio, value in kept.items() if ratio.point.case in args.case}
        if not kept:
            parser.error(f"no ratio is kept for {', '.join(args.case)}")
    peers = check.peers_of(kept)
    if missing := [peer for peer in peers if peer not in installed(peers)]:
        parser.error(f"not installed: {', '.join(missing)}")
    rounds = args.rounds or 5
    if args.command == "record":
        check.record(args.ratios, kept, rounds)
    elif lost := check.check(kept, rounds):
        sys.exit("\n".join(["More than a quarter is lost of:", *map(str, lost)]))


def main():
    parser, args = arguments()
    allowed = OPTIONS[args.command]
    for name, value in vars(args).items():
        if name != "command" and name not in allowed and value != parser.get_default(name):
            parser.error(f"{args.command} takes no --{name}")
    COMMANDS[args.command](parser, args)


CHOICE = {"case", "call", "peer", "size", "items", "rounds", "output"}
OPTIONS = {
    "run": CHOICE,
    "quick": CHOICE,
    "check": {"case", "rounds", "ratios"},
    "record": {"case", "rounds", "ratios"},
    "profile": {"items"},
    "publish": {"rounds", "output", "from"},
}
COMMANDS = {
    "run": run,
    "quick": run,
    "check": guard,
    "record": guard,
    "profile": show_profile,
    "publish": run,
}

if __name__ == "__main__":
    main()
