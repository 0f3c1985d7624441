"""The errors for those who use something where, or when, it cannot be used: what to write."""

from __future__ import annotations

import trio


def check_in_trio(what: str, instead: str | None = None) -> None:
    """Raise a RuntimeError that says what to do, unless this is a task of Trio's."""
    if not trio.lowlevel.in_trio_task():
        if instead is None:
            instead = (
                "Under asyncio, take a triopool.ThreadPoolExecutor, and write `await "
                "loop.run_in_executor(executor, func)`"
            )
        raise RuntimeError(f"{what} needs Trio, in a program that trio.run(main) began. {instead}")


def elsewhere(what: str, how: str) -> RuntimeError:
    """The error for whoever does something in another thread, or another run, than its own."""
    return RuntimeError(
        f"{what} in a thread other than Trio's: write trio.from_thread.{how} there, with "
        "trio_token= if Trio has not started that thread"
    )


def in_child(kind: str) -> RuntimeError:
    """The error for whoever uses a pool in the child of a fork."""
    return RuntimeError(
        f"this {kind} is of the process that opened it, and this is a child that os.fork made "
        "since. Open another one here, in a `trio.run` of its own in a new thread, and end the "
        "child with os._exit(): the run of Trio that it has come out of is its parent's, too"
    )


def unusable(kind: str, state: str) -> Exception:
    """The error for a pool that is not open."""
    if state == "new":
        return RuntimeError(f"this {kind} is not open: use `async with {kind}(...) as pool:` first")
    if state == "closing":
        why = "close() was called, or its block is being left"
    else:
        why = (
            "its block is over. Make the calls inside of `async with`, or keep it open with "
            f"`pool = await nursery.start({kind}(...).run)`"
        )
    return trio.ClosedResourceError(f"this {kind} is closed to new calls: {why}")
