"""Find the broken links of a web site: of a folder of HTML, or of what is at a URL."""

import argparse
import sys
from contextlib import suppress
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urljoin

import httpx
import trio

from triopool import Pool


class Crawl:
    def __init__(self, timeout, external):
        self.timeout, self.external, self.home = timeout, external, None
        self.links = set()  # {(link, the page that has it)}
        self.asked, self.checked, self.elsewhere = set(), set(), set()  # addresses
        self.ids, self.broken = {}, {}  # {page: the ids in it}, {address: what is wrong with it}

    async def run(self, start):
        # httpx needs no timeouts of its own, for `visit` has one, and this machine needs no proxy.
        hooks, mounts = {"request": [self.stay_home]}, {"all://127.0.0.1": None}
        self.client = httpx.AsyncClient(timeout=None, event_hooks=hooks, mounts=mounts)
        # The block waits for the first visit, for those that it asks for, and for theirs in turn.
        # An error that no visit foresaw harms no other visit, and is raised here at the end.
        async with self.client, Pool(20) as self.pool:
            self.follow(start, "the command line")

    def follow(self, link, page):
        with suppress(ValueError):  # httpx will say what is wrong with it
            link = urljoin(page, link.strip())
        address = link.partition("#")[0]
        if address.startswith(("http:", "https:")):
            self.links.add((link, page))
            if address not in self.asked:
                self.asked.add(address)
                # A visit has a slot. If it waited here for another one, all might; so this queues.
                self.pool.apply_async(self.visit, [address])

    async def visit(self, address):
        try:
            with trio.fail_after(self.timeout):
                async with self.client.stream("GET", address, follow_redirects=True) as response:
                    await self.read(response, address)
        except PermissionError:
            self.elsewhere.add(address)
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError) as error:
            self.broken[address] = str(error) or "no answer"
        self.checked.add(address)
        if sys.stderr.isatty():
            line = f"{len(self.checked)} of {len(self.asked)} checked, {len(self.broken)} broken"
            print(line, end="\x1b[K\r", file=sys.stderr, flush=True)

    async def read(self, response, address):
        self.home = self.home or response.url.netloc  # wherever the first visit was led
        kind = response.headers.get("content-type", "")
        if not response.is_success:
            self.broken[address] = f"{response.status_code} {response.reason_phrase}"
        elif "html" in kind and response.url.netloc == self.home:
            await response.aread()
            parser, found = HTMLParser(), []
            parser.handle_starttag = lambda tag, attributes: found.extend(attributes)
            parser.feed(response.text)
            self.ids[address] = {"", "top", *(v for name, v in found if name in ("id", "name"))}
            for link in (v for name, v in found if name in ("href", "src") and v):
                self.follow(link, str(response.url))

    async def stay_home(self, request):  # httpx asks before each request, redirected ones too
        if self.home not in (None, request.url.netloc) and not self.external:
            raise PermissionError

    def problem(self, link):
        address, _, name = link.partition("#")
        if {name, unquote(name)}.isdisjoint(self.ids.get(address, {name})):
            return "no such id there"
        return self.broken.get(address)


def serve(folder):
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket.listen(100)  # a pool knocks at the door more than five times at once
    SimpleHTTPRequestHandler.log_message = server.handle_error = lambda *args: None
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


if __name__ == "__main__":
    docs = Path(__file__).resolve().parents[1] / "_build" / "html"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", nargs="?", default=str(docs), help="a folder or a URL")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for a page")
    parser.add_argument("--external", action="store_true", help="visit links to other hosts, too")
    args = parser.parse_args()
    if not args.timeout > 0:
        parser.error("the timeout must be greater than 0")
    if Path(args.site).is_dir():
        args.site = serve(args.site)
    elif not args.site.startswith(("http://", "https://")):
        parser.error(f"{args.site} is no folder and no URL; `nox -s docs` builds the documentation")
    crawl, interrupted = Crawl(args.timeout, args.external), False
    try:
        # An interrupt in the middle of httpx's own steps would confuse it.
        trio.run(crawl.run, args.site, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted. This is known so far:")
    print(f"{len(crawl.checked)} of {len(crawl.asked)} checked, {len(crawl.elsewhere)} elsewhere")
    rows = [(why, link, page) for link, page in sorted(crawl.links) if (why := crawl.problem(link))]
    origin = "/".join(args.site.split("/")[:3])
    for row in rows and [("problem", "link", "found on"), *rows]:
        print("{:<20}  {:<32}  {}".format(*(cell.removeprefix(origin) or "/" for cell in row)))
    sys.exit(130 if interrupted else bool(rows))
