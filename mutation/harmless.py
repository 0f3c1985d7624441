"""The list of mutants that survive and harm nobody."""

import json
import tomllib
from pathlib import Path

from mutants import Mutant

PATH = Path(__file__).with_name("harmless.toml")


def read() -> dict[tuple[str, str, str, str, int], str]:
    """{the key of a mutant: why it is harmless}."""
    with PATH.open("rb") as file:
        entries = tomllib.load(file).get("mutant", [])
    found = {}
    for each in entries:
        place = each["module"], each["function"], each["line"]
        if not each["reason"].strip("? "):
            raise ValueError(f"without a reason: {place}")
        for change in each["changes"]:
            name, _, nth = change.partition(" #")
            found[*place, name, int(nth or 1)] = each["reason"]
    return found


def entry(mutant: Mutant, reason: str) -> str:
    """As it is written in the list, where one entry may have several changes of a line."""
    nth = f" #{mutant.nth}" if mutant.nth > 1 else ""
    fields = {
        "module": mutant.module,
        "function": mutant.function,
        "line": mutant.line,
        "changes": [mutant.change + nth],
        "reason": reason,
    }
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["[[mutant]]", *lines])
