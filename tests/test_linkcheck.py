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


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A child ignores Ctrl-C if its parent does, as in the background of some shells."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_folder_without_a_broken_link_is_fine(folder: Write) -> None:
    site = folder(
        {
            "index.html": """
                <link rel="stylesheet" href="style.css"> <p id="here"> <a name=old>
                <a href="#">top</a> <a href="#top">top</a> <a href="#here"> <a href="">
                <a href="sub/page.html#caf%C3%A9"> <a href=" sub/ ">
                <a href="sub/page.html?a=1&amp;b=2">
                <img src="sub/picture.svg#part"> <a href="sub">
                <a href="mailto:someone@example.org"> <a href="javascript:void(0)"> <a href="tel:1">
                <script src=""></script> <a href="data:text/plain,hello"> <a>nowhere</a>
            """,
            "style.css": "p { color: red }",
            "sub/index.html": '<a href="./page.html#café"> <a href="/index.html#old">',
            "sub/page.html": '<p id="café"> <a href="../index.html#here"> <a href="..">',
            "sub/picture.svg": '<svg><a href="missing.html"></a></svg>',
        }
    )
    done = check(site)
    assert (done.returncode, done.stderr) == (0, "")
    # /, index.html, style.css, sub, sub/, sub/page.html with a query and without, the picture.
    assert done.stdout == "8 of 8 checked, 0 elsewhere\n"


def test_a_broken_link_is_reported_with_each_page_that_has_it(folder: Write) -> None:
    site = folder(
        {
            "index.html": '<a href=page.html> <a href=no.html> <a href="no.html"> <img src=no.png>',
            "page.html": '<a href="no.html#part"> <a href="/no.html">',
        }
    )
    done = check(site)
    assert (done.returncode, done.stderr) == (1, "")
    why = "404 File not found"
    assert table(done.stdout) == {
        (why, "/no.html", "/"),
        (why, "/no.png", "/"),
        (why, "/no.html", "/page.html"),
        (why, "/no.html#part", "/page.html"),
    }


def test_a_broken_fragment_is_reported(folder: Write) -> None:
    site = folder(
        {
            "index.html": "<p id=here> <a href=#here> <a href=#gone> <a href=page.html#caf%C3%A9>",
            "page.html": "No id at all.",
        }
    )
    done = check(site)
    assert (done.returncode, done.stderr) == (1, "")
    assert table(done.stdout) == {
        ("no such id there", "/#gone", "/"),
        ("no such id there", "/page.html#caf%C3%A9", "/"),
    }


def test_a_page_that_hangs_is_given_up_and_the_rest_is_checked() -> None:
    pages = {"/": '<a href="slow"> <a href="fine">', "/fine": '<a href="no">', "/slow": None}
    with serving(pages) as site:
        done = check(site.url, "--timeout", 2)
    assert (done.returncode, done.stderr) == (1, "")
    assert table(done.stdout) == {("no answer", "/slow", "/"), ("404 Not Found", "/no", "/fine")}


def test_a_url_is_checked_by_its_links() -> None:
    pages = {
        "/start?page=1": "<a href=?page=2> <a href=?page=3> <a href=moved#here> <a href=loop>",
        "/start?page=2": '<a href="?page=1#here"> <a href="empty">',
        "/moved": (302, {"Location": "/new/place"}),
        "/new/place": '<p id="here"> <a href="relative">',  # to what it is called after the move
        "/new/relative": (200, {"Content-Type": "application/octet-stream"}),
        "/loop": (302, {"Location": "/loop"}),
        "/empty": (204, {}),
    }
    with serving(pages) as site:
        done = check(f"{site.url}/start?page=1")
    assert (done.returncode, done.stderr) == (1, "")
    assert table(done.stdout) == {
        ("no such id there", "/start?page=1#here", "/start?page=2"),
        ("404 Not Found", "/start?page=3", "/start?page=1"),
        ("Exceeded maximum allowed redirects.", "/loop", "/start?page=1"),
    }
    once = [path for path in site.asked if path not in ("/loop", "/new/place")]
    assert len(once) == len(set(once))


def test_what_is_elsewhere_is_counted_and_visited_on_demand_only() -> None:
    with serving({"/": '<a href="/no">', "/gone": 410}) as other:
        there = f'<a href="{other.url}/"> <a href="{other.url}/#x"> <a href="{other.url}/gone">'
        pages = {"/": there + '<a href="/away">', "/away": (301, {"Location": f"{other.url}/"})}
        with serving(pages) as site:
            done = check(site.url)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == "4 of 4 checked, 3 elsewhere\n"
            assert other.asked == []
            done = check(site.url, "--external")
    assert (done.returncode, done.stderr) == (1, "")
    assert table(done.stdout) == {("410 Gone", f"{other.url}/gone", "/")}
    assert "/no" not in other.asked


def test_what_answers_nothing_or_is_no_address_is_reported() -> None:
    with serving({}) as site:
        nowhere = site.url
    pages = {"/": f'<a href="{nowhere}/"> <a href="http://[x/"> <a href="http://127.0.0.1:99999/">'}
    with serving(pages) as site:
        done = check(site.url, "--external")
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 5
    done = check(nowhere)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("the command line\n")


def test_big_files_are_not_downloaded_and_odd_bytes_do_no_harm(folder: Write) -> None:
    site = folder({"index.html": '<a href="big.bin"> <a href="odd.html">'})
    (site / "odd.html").write_bytes(
        b'<meta charset="none"> \xff\x00 <a href="\xff"> <a href="&#0;"> <'
    )
    with (site / "big.bin").open("wb") as file:
        file.truncate(2**34)
    done = check(site)
    assert (done.returncode, done.stderr) == (1, "")
    assert {page for _, _, page in table(done.stdout)} == {"/odd.html"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no/such/folder"], "no/such/folder is no folder and no URL"),
        (["ftp://example.org"], "is no folder and no URL"),
        ([PROGRAM], "is no folder and no URL"),
        (["--timeout", "0", "."], "timeout must be greater than 0"),
        (["--timeout", "nan", "."], "timeout must be greater than 0"),
        (["--timeout", "soon", "."], "invalid float value"),
        (["--no-such-option"], "unrecognized arguments"),
        ([".", "."], "unrecognized arguments"),
    ],
)
def test_bad_usage_is_told(args: list[object], message: str) -> None:
    done = check(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_by_default_it_takes_the_documentation_and_says_so_when_that_is_not_built(
    tmp_path: Path,
) -> None:
    program = tmp_path / "docs" / "examples" / PROGRAM.name
    program.parent.mkdir(parents=True)
    program.write_bytes(PROGRAM.read_bytes())
    run = [sys.executable, str(program)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    built = tmp_path / "docs" / "_build" / "html"
    assert f"{built} is no folder and no URL; `nox -s docs` builds the documentation" in done.stderr
    built.mkdir(parents=True)
    (built / "index.html").write_text("Built.")
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 of 1 checked, 0 elsewhere\n"


@pytest.mark.usefixtures("interruptible")
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


@pytest.mark.usefixtures("interruptible")
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
