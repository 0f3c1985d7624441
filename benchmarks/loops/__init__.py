"""The event loops, and in each the calls that are measured: of no checkpoint, of one, to a server.

Each module has `run(main)`, the calls `none` and `checkpoint`, and `socket(port, size)`, a context
with a call that sends a byte to a server and waits for it to come back. It has a connection for
each of `size` calls, which are open before the clock starts.
"""
