"""A server that sends back what it gets, in a process of its own, the same for every peer."""

import selectors
import socket


def serve():
    """Print the port, and serve until killed."""
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as listener,
    ):
        selector.register(listener, selectors.EVENT_READ)
        print(listener.getsockname()[1], flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif data := receive(key.fileobj):
                    key.fileobj.sendall(data)
                else:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def receive(connection):
    try:
        return connection.recv(100)
    except ConnectionResetError:
        return b""


if __name__ == "__main__":
    serve()
