"""The example of a link checker: run as a program, over real files and real servers."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Semaphore, Thread

import pytest

PROGRAM = Path(__file__).parents[1] / "docs" / "examples" / "linkcheck.py"
Write = Callable[..., Path]


def command(*args: object) -> list[str]:
    return [sys.executable, str(PROGRAM), *map(str, args)]


def check(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, check=False)


def table(output: str) -> set[tuple[str, ...]]:
    """The rows under the head of the table."""
    lines = output.splitlines()
    if len(lines) == 1:
        return set()
    assert re.split("  +", lines[1]) == ["problem", "link", "found on"]
    return {tuple(re.split("  +", line)) for line in lines[2:]}


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """`folder({path: content})` is a folder with these files in it."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return tmp_path

    return write


class Site(ThreadingHTTPServer):
    """Answers with `pages`: {path: HTML, a status, (a status, headers), or None for never}."""

    request_queue_size = 100

    def __init__(self, pages: Mapping[str, object]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages = pages
        self.asked: list[str] = []
        self.hanging = Semaphore(0)
        self.over = Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *args: object) -> None:
        """A client that went away is none."""


class Answer(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.pages.get(self.path, 404)
        if answer is None:
            self.server.hanging.release()
            self.server.over.wait()
            return
        body = b""
        if isinstance(answer, str):
            body, answer = answer.encode(), (200, {"Content-Type": "text/html; charset=utf-8"})
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(pages: Mapping[str, object]) -> Iterator[Site]:
    with Site(pages) as site:
        Thread(target=site.serve_forever, args=[0.01], daemon=True).start()
        try:
            yield site
        finally:
            site.over.set()
            site.shutdown()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_it_with_what_it_knows() -> None:
    links = "".join(f'<a href="slow{i}">' for i in range(100))
    pages = {f"/slow{i}": None for i in range(100)}
    with serving({"/": '<a href="no"> <a href="#gone"> <a href="last">' + links, **pages}) as site:
        with subprocess.Popen(
            command(f"{site.url}/", "--timeout", 1000),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            for _ in range(20):  # each slot is taken by a page that hangs: nothing moves any more
                site.hanging.acquire()
            program.send_signal(signal.SIGINT)
            out, err = program.communicate()
        assert not site.over.is_set()  # it did not wait for them
    assert (program.returncode, err) == (130, "")
    assert out.startswith("\nInterrupted")
    assert " of 103 checked, 0 elsewhere" in out
    assert re.search("^no such id there +/#gone +/$", out, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudoterminals")
def test_ctrl_c_at_any_moment_leaves_no_traceback(folder: Write) -> None:
    every = "".join(f'<a href="{i}.html"> <a href="{i}.txt">' for i in range(100))
    more = "".join(f'<a href="{i}.bin">' for i in range(1000))  # it must not be over too early
    site = folder({"index.html": every + more} | {f"{i}.html": every for i in range(100)})
    for moment in range(1, 100, 12):
        with terminal(site) as (program, chunks):
            seen = ""
            while f"{moment} of " not in seen:
                seen += next(chunks)
            program.send_signal(signal.SIGINT)
            seen += "".join(chunks)
            assert program.wait() == 130, seen[-3000:]
        assert "Traceback" not in seen
        assert "Interrupted" in seen


@contextmanager
def terminal(*args: object) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[str]]]:
    """Run it in a terminal: the process, and what it shows, piece by piece."""
    ours, theirs = os.openpty()

    def chunks() -> Iterator[str]:
        try:
            while data := os.read(ours, 1000):
                yield data.decode()
        except OSError:  # Linux says so that the other end is closed
            pass

    try:
        with subprocess.Popen(
            command(*args), stdin=theirs, stdout=theirs, stderr=theirs
        ) as program:
            os.close(theirs)
            yield program, chunks()
    finally:
        os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudoterminals")
def test_a_terminal_shows_progress(folder: Write) -> None:
    site = folder({"index.html": '<a href="page.html"> <a href="no">', "page.html": "Fine."})
    with terminal(site) as (program, chunks):
        shown = "".join(chunks)
        assert program.wait() == 1
    assert shown.startswith("1 of 3 checked, 0 broken\x1b[K\r")
    assert "3 of 3 checked, 1 broken\x1b[K\r3 of 3 checked, 0 elsewhere\r\n" in shown
