"""eventlet's hub."""

from contextlib import contextmanager

import eventlet


def run(main):
    return main()


def none(item):
    return item


def checkpoint(item):
    eventlet.sleep(0)
    return item


@contextmanager
def socket(port, size):
    sockets = [eventlet.connect(("127.0.0.1", port)) for _ in range(size)]

    def call(item):
        stream = sockets.pop()
        stream.sendall(b"?")
        stream.recv(1)
        sockets.append(stream)
        return item

    yield call
    for stream in sockets:
        stream.close()
