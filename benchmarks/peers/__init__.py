"""Those that are measured: in each module a function for each case that the peer can do.

A function takes the call, the size of the pool and the number of items. `async def` or `def`, it
runs in the loop of its peer. What is measured is the time until it returns, unless it returns a
figure of its own: seconds for `kill`, bytes for `memory`.
"""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Peer:
    """A peer: its modules in `peers` and `loops`, and what its program would import."""

    module: str
    loop: str
    imports: str
    needs: tuple[str, ...] = ()  # distributions; none for what comes with Python

    def installed(self):
        return all(find_spec(name) for name in self.needs)

    def versions(self):
        return [version_of(distribution) for distribution in self.needs]


def version_of(distribution):
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:  # it is only on the path
        return distribution


PEERS = {
    "triopool": Peer("triopool", "trio", "triopool", ("triopool",)),
    "trio": Peer("trio", "trio", "trio", ("trio",)),
    "gevent": Peer("gevent", "gevent", "gevent.pool", ("gevent",)),
    "eventlet": Peer("eventlet", "eventlet", "eventlet", ("eventlet",)),
    "aiometer": Peer("aiometer", "trio", "aiometer", ("aiometer",)),
    "anyio-trio": Peer("anyio", "anyio_trio", "anyio, trio", ("anyio", "trio")),
    "anyio-asyncio": Peer("anyio", "anyio_asyncio", "anyio, asyncio", ("anyio",)),
    "asyncio": Peer("asyncio", "asyncio", "asyncio"),
    "uvloop": Peer("asyncio", "uvloop", "uvloop", ("uvloop",)),
    "concurrent": Peer("concurrent", "threads", "concurrent.futures.thread"),
}
OURS = "triopool"
