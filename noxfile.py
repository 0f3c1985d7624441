"""What can be done here: `nox -l` lists it, and `nox` alone does all that a change must pass."""

import functools
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


@functools.cache
def coverage_dir(cache: Path) -> Path:
    """A place for the data of this run of nox, free of what earlier runs left behind."""
    return remake(cache / "coverage")


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
    """Run the tests on each Python, then `coverage`; arguments after `--` are pytest's."""
    session.install("-e", ".", *requirements("tests"))
    data = coverage_dir(session.cache_dir) / ".coverage"
    # The benchmark takes its time, and is the same on each.
    once = () if session.python == PYTHONS[0] else ("--ignore=tests/test_benchmarks.py",)
    arguments = session.posargs or once
    # Coverage takes half of the time, and one between the oldest and a newer one has no lines of
    # its own.
    newer = any(shutil.which(f"python{version}") for version in PYTHONS[2:])
    if session.python == PYTHONS[1] and newer:
        session.run("pytest", *arguments)
        return
    session.run("coverage", "run", "-m", "pytest", *arguments, env={"COVERAGE_FILE": str(data)})
    session.notify("coverage")


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine and report the coverage of all tests that ran; `tests` calls it."""
    session.install(*(r for r in requirements("tests") if r.startswith("coverage")))
    session.run("coverage", "combine", "--quiet", str(coverage_dir(session.cache_dir)))
    if session.posargs:
        session.log("These may not have been all the tests: coverage is shown, not required.")
        session.run("coverage", "report", "--fail-under=0")
    else:
        session.run("coverage", "report")


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


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside gevent, eventlet and others; `-- quick`, `-- check`, `-- --help`."""
    session.install("-e", ".", *requirements("bench"))
    session.run("python", "benchmarks", *session.posargs)
