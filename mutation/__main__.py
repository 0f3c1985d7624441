"""Change the package in one small way after the other, and see whether a test notices.

  nox -s mutation                                   every mutant; takes hours
  nox -s mutation -- --sample 300 --seed 1          that many, drawn at random
  nox -s mutation -- src/triopool/_line.py          those of a module
  nox -s mutation -- src/triopool/_line.py:69       those of a line
  nox -s mutation -- src/triopool/_line.py --list   say what they are, and run nothing

A mutant is a copy of the package with one change in it: a statement left out, a condition turned
round, a number raised by one, a decorator gone, and the like. A test that fails, or does not end,
kills it. Only those tests run that run the line, the quickest first, and at last those that start
programs, of which nobody knows what they run. What survives is a hole in the tests, or harmless: no
user could tell the difference. `harmless.toml` lists those, each with the reason; this ends with an
error when one survives that is not on the list, and when less than 90 % are killed.

What was found out is kept in `.mutation`, so that it can be interrupted and goes on from there: a
mutant that was killed stays so until its module changes, and one that survived until the module or
a test does.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, TypeVar

import attrs
import harmless
from mutants import Mutant, mutants_of
from suite import (
    PACKAGE,
    ROOT,
    Outcome,
    Record,
    Suite,
    Test,
    compile_all,
    copy_to,
    end_children,
    hash_of,
    record,
    test_files,
    try_mutant,
)

KEPT = ROOT / ".mutation"
LEAST = 90  # per cent

Key = tuple[str, str, str, str, int]
Item, Result = TypeVar("Item"), TypeVar("Result")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s mutation --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("places", nargs="*", metavar="module[:line]", help="by default, all")
    parser.add_argument("--sample", type=int, help="draw so many of them at random")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; by default 0")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="so many at once")
    parser.add_argument("--no-programs", action="store_true", help="without tests that start some")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="of tests for each; then it has survived"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was found out before")
    parser.add_argument("--list", action="store_true", help="list the mutants, and run nothing")
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> list[Mutant]:
    package = ROOT / PACKAGE
    if not args.places:
        found = [m for path in sorted(package.rglob("*.py")) for m in mutants_of(path, package)]
    else:
        found = []
        for place in args.places:
            name, _, line = place.partition(":")
            path = Path(name).resolve()
            if package not in path.parents or not path.is_file():
                sys.exit(f"{name} is no module of the package")
            mutants = mutants_of(path, package)
            found += [m for m in mutants if not line or m.number == int(line)]
    if args.sample is not None and args.sample < len(found):
        places = random.Random(args.seed).sample(range(len(found)), args.sample)
        found = [found[place] for place in sorted(places)]
    return found


# What is kept


@attrs.define
class Notes:
    """What was found out earlier."""

    limits: list[float]  # which tests were tried on what survived
    tests: str = attrs.Factory(lambda: hash_of(ROOT / "tests"))
    modules: dict[str, str] = attrs.Factory(dict)  # {module: its hash}
    path: Path = KEPT / "outcomes.jsonl"

    def about(self, mutant: Mutant, *, survived: bool) -> list[object]:
        name = mutant.module
        if name not in self.modules:
            self.modules[name] = hash_of(ROOT / PACKAGE / name)
        return [*mutant.key, self.modules[name], *([self.tests, *self.limits] * survived)]

    def read(self, mutants: Iterable[Mutant]) -> dict[Key, Outcome]:
        if not self.path.exists():
            return {}
        known = {}
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                about, *outcome = json.loads(line)
                known[tuple(about)] = Outcome(*outcome)
        found = {}
        for mutant in mutants:
            for survived in (True, False):
                if outcome := known.get(tuple(self.about(mutant, survived=survived))):
                    found[mutant.key] = outcome
        return found

    def write(self, mutant: Mutant, outcome: Outcome) -> None:
        about = self.about(mutant, survived=outcome.result == "survived")
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps([about, *attrs.astuple(outcome)]), file=file)


# Many at once


class Lane:
    """One of several processes, with a copy of the project of its own."""

    copy: Path
    suite: Suite
    programs: list[Test]
    seconds: float
    likely: ClassVar = dict[str, Counter[str]]()  # {module: those that run or notice much of it}

    @classmethod
    def begin(cls, compiled: Path) -> None:
        signal.signal(signal.SIGTERM, cls.end)
        cls.copy = compiled.with_name(str(os.getpid()))
        shutil.copytree(compiled, cls.copy)

    @staticmethod
    def end(*_: object) -> None:
        end_children()
        os._exit(1)  # whatever it holds, nobody wants any more

    @classmethod
    def record(cls, file: str) -> tuple[str, Record]:
        return file, record(cls.copy, file)

    @classmethod
    def try_mutant(cls, mutant: Mutant) -> tuple[Mutant, Outcome]:
        if mutant.module not in cls.likely:
            cls.likely[mutant.module] = cls.suite.depths(mutant.module)
        likely = cls.likely[mutant.module]
        tests = cls.suite.of(mutant)
        others = cls.suite.around(mutant) + cls.programs
        outcome = try_mutant(cls.copy, mutant, tests, others, likely, cls.seconds)
        likely[outcome.by] += 5
        return mutant, outcome


def recorded(jobs: int) -> Suite:
    """The tests, and what they run: as they did before, where nothing has changed."""
    suite, missing = Suite(), []
    folder = KEPT / "records"
    folder.mkdir(parents=True, exist_ok=True)
    helpers = (p for p in (ROOT / "tests").rglob("*.py") if not p.name.startswith("test_"))
    shared = [ROOT / "src", *helpers]
    for file in test_files():
        path = folder / f"{Path(file).stem}-{hash_of(*shared, ROOT / file)}.json"
        if path.exists():
            suite.add(Record.read(path))
        else:
            missing.append((file, path))
    if missing:
        print(f"Running the tests of {len(missing)} files, to see which lines they run.")
    paths = dict(missing)
    for file, found in in_lanes(jobs, Lane.record, paths):
        if found.failed:
            print(f"They fail without a mutant, and are left out: {', '.join(found.failed)}")
        for old in folder.glob(f"{Path(file).stem}-*.json"):
            old.unlink()
        found.write(paths[file])
        suite.add(found)
    if not suite.tests:
        sys.exit("no test passes without a mutant")
    return suite


def in_lanes(jobs: int, work: Callable[[Item], Result], given: Iterable[Item]) -> Iterator[Result]:
    """Do some work on each item, in the order in which it gets done."""
    items = list(given)
    if not items:
        return
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        compiled = Path(folder, "compiled")
        copy_to(compiled)
        compile_all(compiled)
        jobs = min(jobs, len(items))
        with multiprocessing.get_context("fork").Pool(jobs, Lane.begin, [compiled]) as lanes:
            yield from lanes.imap_unordered(work, items)
            lanes.close()
            lanes.join()


# What is told


def tell(mutants: list[Mutant], outcomes: dict[Key, Outcome]) -> bool:
    """Print a table, and what survived; whether all is well."""
    listed = harmless.read()
    rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    new = []
    for mutant in mutants:
        result = outcomes[mutant.key].result
        if result == "survived":
            result = "harmless" if mutant.key in listed else "new"
            new += [mutant] * (result == "new")
        for row in (mutant.module, "in all"):
            rows[row][result] += 1
    total = rows.pop("in all")
    print(
        f"\n{'':24}{'mutants':>8}{'killed':>8}{'of them hang':>14}{'survived':>10}{'harmless':>10}"
    )
    for name, row in [*sorted(rows.items()), ("in all", total)]:
        killed = row["killed"] + row["hangs"]
        survived = row["harmless"] + row["new"]
        share = f"{100 * killed / row.total():6.1f} %"
        cells = f"{row.total():>8}{killed:>8}{row['hangs']:>14}{survived:>10}{row['harmless']:>10}"
        print(f"{name:24}{cells}{share:>10}")
    if new:
        print("\nThese survived, and are not in mutation/harmless.toml:")
        for mutant in new:
            print(f"\n# {PACKAGE / mutant.module}:{mutant.number}")
            print(harmless.entry(mutant, "?"))
    for mutant in mutants:
        if mutant.key in listed and outcomes[mutant.key].result != "survived":
            print(f"\nListed as harmless, but {outcomes[mutant.key].by} notices:")
            print(harmless.entry(mutant, listed[mutant.key]))
    enough = 100 * (total["killed"] + total["hangs"]) >= LEAST * total.total()
    if not enough:
        print(f"\nLess than {LEAST} % were killed.")
    return enough and not new


def progress(done: int, count: int, mutant: Mutant, outcome: Outcome) -> None:
    what = f"{mutant.module}:{mutant.number}  {mutant.change}"
    told = outcome.result + (f" by {outcome.by}" if outcome.by else "")
    print(f"{done:>5} of {count}  {outcome.seconds:6.1f} s  {what}  {told}", flush=True)


def main() -> None:
    args = arguments()
    if not hasattr(os, "fork"):
        sys.exit("this needs a system that can fork")
    mutants = chosen(args)
    if args.list:
        for mutant in mutants:
            print(f"{PACKAGE / mutant.module}:{mutant.number}  {mutant.change}")
        print(len(mutants), "mutants")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    KEPT.mkdir(exist_ok=True)
    notes = Notes([args.no_programs, args.seconds])
    if args.fresh:
        notes.path.unlink(missing_ok=True)
    outcomes = notes.read(mutants)
    rest = [mutant for mutant in mutants if mutant.key not in outcomes]
    random.Random(args.seed).shuffle(rest)  # whoever stops it early has a sample all the same
    print(f"{len(mutants)} mutants, of which {len(mutants) - len(rest)} are known.", flush=True)
    if rest:
        Lane.suite = recorded(args.jobs)
        Lane.programs = [] if args.no_programs else Lane.suite.programs()
        Lane.seconds = args.seconds
        results: Iterator[tuple[Mutant, Outcome]] = in_lanes(args.jobs, Lane.try_mutant, rest)
        for done, (mutant, outcome) in enumerate(results, 1):
            outcomes[mutant.key] = outcome
            notes.write(mutant, outcome)
            progress(done, len(rest), mutant, outcome)
    if not tell(mutants, outcomes):
        sys.exit(1)


if __name__ == "__main__":
    main()
