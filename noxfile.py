"""What can be done here: `nox -l` lists it, and `nox` alone does all that a change must pass."""

import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "tests", "docs", "build"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# A Python that this machine lacks is reported as skipped, on CI too, and not downloaded.
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
HTML = Path("docs", "_build", "html")
# Tests of programs that take their time and are the same on each Python: the oldest runs them.
ONCE = [f"tests/test_{name}.py" for name in ("benchmarks", "docs", "linkcheck", "mutation")]

TRY_OUT = """\
from pathlib import Path

import trio
import triopool


async def double(x: int) -> int:
    await trio.sleep(0)
    return 2 * x


async def main() -> None:
    async with triopool.Pool(2) as pool:
        task = await pool.spawn(double, 21)
        assert await task.get() == 42
        assert await pool.map(double, range(5)) == [0, 2, 4, 6, 8]
        assert [x async for x in pool.imap(double, range(3))] == [0, 2, 4]


trio.run(main)
home = Path(triopool.__file__).parent
assert "site-packages" in home.parts, home
assert (home / "py.typed").is_file()
print("Installed and used:", home)
"""


def switch_on_pyenv() -> None:
    """Let nox find every Python that pyenv has installed, not only those it has switched on."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names = (path.name for path in root.glob("versions/*"))
    found = [name.split(".") for name in names if re.fullmatch(r"3\.\d+\.\d+", name)]
    newest_first = sorted(found, key=lambda parts: [int(part) for part in parts], reverse=True)
    chosen = os.environ.get("PYENV_VERSION")
    more = [".".join(parts) for parts in newest_first if ".".join(parts[:2]) in PYTHONS]
    if more:
        os.environ["PYENV_VERSION"] = ":".join([*([chosen] if chosen else []), *more])


switch_on_pyenv()


def requirements(*groups: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, *groups)


def remake(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


@nox.session
def lint(session: nox.Session) -> None:
    """Check style with ruff; `-- --fix` repairs what it can."""
    session.install(*requirements("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix")
        session.run("ruff", "format")
    else:
        session.run("ruff", "check")
        session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and with pyright, and that every public name has one."""
    session.install("-e", ".", *requirements("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "triopool", "--ignoreexternal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on each Python, with coverage on the newest; after `--`, those you name."""
    session.install("-e", ".", *requirements("tests"))
    here = [version for version in PYTHONS if shutil.which(f"python{version}")] or PYTHONS
    options = list(session.posargs) or ["-n", "auto", "--dist", "worksteal"]
    if not session.posargs and session.python != here[0]:
        options += [f"--ignore={path}" for path in ONCE]
    # It takes half of the time, and no line is an older Python's own.
    if not session.posargs and session.python == here[-1]:
        options += ["--cov", "--cov-report=term-missing:skip-covered"]
    session.run("pytest", *options)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation to docs/_build/html; warnings are errors."""
    session.install("-e", ".", *requirements("docs"))
    remake(HTML)
    build_html(session, "-W", "-n", "--keep-going", "-E")


def build_html(session: nox.Session, *options: str) -> None:
    doctrees = HTML.with_name("doctrees")
    session.run("sphinx-build", "-b", "html", "-d", str(doctrees), *options, "docs", str(HTML))


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel to dist/, look inside, then install and use each on its own."""
    session.install(*requirements("build"))
    dist = remake(Path("dist"))
    session.run("python", "-m", "build", "--outdir", str(dist))
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    check_sdist(session, sdist)
    check_wheel(session, wheel)
    program = Path(session.create_tmp(), "try_out.py")
    program.write_text(TRY_OUT)
    for package in (wheel, sdist):
        venv = remake(program.with_name("venv"))
        session.run("virtualenv", "--quiet", str(venv))
        python = str(venv / ("Scripts" if os.name == "nt" else "bin") / "python")
        session.run(python, "-m", "pip", "install", "--quiet", str(package), external=True)
        session.run(python, "-I", "-W", "error", str(program), external=True)


def check_sdist(session: nox.Session, path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "noxfile.py"}
    if missing := (wanted | {"src", "tests", "docs"}) - tops:
        session.error(f"{path.name} lacks {', '.join(sorted(missing))}")
    if any(name.startswith("docs/_build") for name in names):
        session.error(f"{path.name} has the built documentation in it")


def check_wheel(session: nox.Session, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "triopool/py.typed" not in names:
        session.error(f"{path.name} lacks py.typed: its types would go unseen")
    tops = {name.partition("/")[0] for name in names}
    if strange := {top for top in tops if top != "triopool" and not top.endswith(".dist-info")}:
        session.error(f"{path.name} would install {', '.join(sorted(strange))} beside triopool")


@nox.session
def demo(session: nox.Session) -> None:
    """Check the links of the built documentation, or of the folder or URL after `--`."""
    session.install("-e", ".", *requirements("docs", "demo"))
    build_html(session, "-q")  # which is what it checks unless it is told otherwise
    # Ctrl-C reaches the program too: it is given the time to say what it has found.
    session.run(
        "python",
        "docs/examples/linkcheck.py",
        *session.posargs,
        interrupt_timeout=5,
    )


@nox.session(python=PYTHONS[0])  # which has its ratios kept
def bench(session: nox.Session) -> None:
    """Measure beside gevent, eventlet and others; `-- quick`, `-- check`, `-- --help`."""
    session.install("-e", ".", *requirements("bench"))
    session.run("python", "benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Make a million calls and ten thousand pools in constant memory; `-- --help` for less."""
    session.install("-e", ".")
    session.run("python", "-W", "error", "tests/soak.py", *session.posargs)


@nox.session
def storms(session: nox.Session) -> None:
    """Press Ctrl-C at a thousand random moments of each kind of pool; `-- 100` for as many."""
    session.install("-e", ".", *requirements("tests"))
    count = session.posargs[0] if session.posargs else "1000"
    session.run("pytest", "tests/test_signals.py", env={"TRIOPOOL_STORMS": count})


@nox.session
def schedules(session: nox.Session) -> None:
    """Strike the pools at more moments and in more orders; `-- 20` for twenty times as many."""
    session.install("-e", ".", *requirements("tests"))
    scale = session.posargs[0] if session.posargs else "10"
    files = [f"tests/test_every_{name}.py" for name in ("cancellation", "interrupt", "order")]
    session.run("pytest", "-n", "auto", *files, env={"TRIOPOOL_SCHEDULES": scale})


@nox.session(python=PYTHONS[0])
def mutation(session: nox.Session) -> None:
    """Change the package in small ways: do the tests notice? `-- --help`; all of it takes hours."""
    session.install("-e", ".", *requirements("tests"))
    session.run("python", "mutation", *session.posargs)
