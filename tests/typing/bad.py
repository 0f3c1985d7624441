"""Calls that must not type-check: each line says which error it has to give."""

import triopool
from triopool import GreenPile, Pool


async def length(text: str) -> int:
    return len(text)


def sync_length(text: str) -> int:
    return len(text)


async def calls(pool: Pool) -> None:
    await pool.spawn(sync_length, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.spawn(length, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.spawn(length)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pool.spawn_nowait(length, text=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.start(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def maps(pool: Pool, pile: GreenPile[int]) -> None:
    await pool.map(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.map(sync_length, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.imap(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await triopool.map(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    list(pool.imap(length, ["a"]))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    list(pile)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def kinds() -> None:
    Pool("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Pool(on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
