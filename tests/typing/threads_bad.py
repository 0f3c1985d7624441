"""Calls of pools of threads that must not type-check: each line says which error it has to give."""

from triopool import Pool, ThreadPool, as_completed, wait


def length(text: str) -> int:
    return len(text)


async def calls(pool: ThreadPool) -> None:
    await pool.spawn(length, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.spawn(length)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pool.spawn_nowait(length, text=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.start(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def maps(pool: ThreadPool) -> None:
    await pool.map(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.imap(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.starmap(length, [("a", 2)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    list(pool.imap(length, ["a"]))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def kinds(pool: ThreadPool) -> None:
    ThreadPool("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ThreadPool(on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ThreadPool(1, abandon_on_cancel="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.size = "3"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    a_pool: Pool = pool  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(a_pool)


async def waiting(pool: ThreadPool) -> None:
    task = await pool.spawn(length, "a")
    await wait(task)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await wait([1])  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    as_completed(task)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pool:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
