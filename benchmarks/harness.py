"""What the machinery costs, beside a loop over `python FILE`.

The group `recipes` runs with the engines up; their start is the group `engines`. Each
recipe gets an empty place and a process of its own, and its output is compared. Timed
are the parts of the machinery that do this, the start of the fork server and the import
of the drivers included: many at a time, since recipes wait for servers more than they
compute; then pytest as a whole process, as `cookbook verify` calls it, which adds its
own start, that of its workers, and the ledger.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

from benchmarks.common import Progress, Way, chart, interleaved
from cookbook import catalog, places
from cookbook.catalog import Recipe
from cookbook.engines import engine, serving
from cookbook.engines.base import Server
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Chart
from cookbook.paths import ROOT
from cookbook.runner import ForkServer, Runner, environment, in_order
from cookbook.servers import Servers

AT_ONCE = 8
WORKERS = 2
Own = list[tuple[str, Server]]  # what the recipe needs, and the server that serves it


def run(quick: bool, progress: Progress) -> Chart:
    """Measure with every recipe whose engine is here, or with one."""
    pattern, runs = ("sqlite/connect", 1) if quick else ("*", 3)
    asked = catalog.find(pattern)
    names = {one.name for r in asked for need in r.needs for one in serving(need)}
    servers = Servers()
    with copy_of_checkout() as checkout:
        try:
            start = Way("all engines", "recipe", lambda: start_all(servers, names))
            groups = {"engines": interleaved([start], runs, progress)}
            recipes = available(asked, servers)
            ways = [
                Way(
                    f"fork server, {AT_ONCE} at a time, outputs compared",
                    "recipe",
                    lambda: forked(recipes),
                ),
                Way(
                    f"pytest, {WORKERS} workers, outputs compared",
                    "recipe",
                    together(checkout, pattern, servers),
                ),
                Way(
                    "python FILE, one after the other",
                    "tool",
                    lambda: sum(map(alone, recipes, recipes.values())),
                ),
            ]
            groups["recipes"] = interleaved(ways, runs, progress)
        finally:
            servers.stop()
    ran = {name for own in recipes.values() for name, _ in own}
    title = f"Seconds for {len(recipes)} recipes on {len(ran)} engines."
    return chart(title, "s", "lower", runs, {}, groups)


def available(recipes: Iterable[Recipe], servers: Servers) -> dict[Recipe, Own]:
    """Those whose engines run, with the servers; of the main environment."""
    found = {}
    for recipe in recipes:
        with suppress(UnavailableError):
            if not recipe.environment:
                found[recipe] = places.own_servers(recipe.needs, servers)
    return found


@contextmanager
def copy_of_checkout() -> Iterator[Path]:
    """A copy, so that no run meets another, nor writes over the ledger."""
    with tempfile.TemporaryDirectory(prefix="cookbook-bench-") as folder:
        copy = Path(folder, "checkout")
        left_out = shutil.ignore_patterns(".*", "build", "site")
        shutil.copytree(ROOT, copy, ignore=left_out)
        yield copy


def of_the_copy(checkout: Path) -> dict[str, str]:
    """The environment in which Python imports the copy, and not the original."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def start_all(servers: Servers, names: Iterable[str]) -> float:
    """Start the engines anew, all at once, and leave them up."""
    servers.stop()
    started = perf_counter()
    servers.start(names)
    return perf_counter() - started


def together(checkout: Path, pattern: str, servers: Servers) -> Callable[[], float]:
    """The output test of the recipes, told where the engines are."""
    command = ["-m", "pytest", "-q", "-p", "no:randomly", f"-n{WORKERS}"]
    command += ["tests/recipes/test_output.py"]
    command += [f"--recipe={pattern}", "--ledger=build/output.json"]
    up: dict[str, str] = {}
    for server in servers.running.values():
        up |= engine(server.engine).variables(server.url) if server.url else {}
    return lambda: seconds(command, checkout, of_the_copy(checkout) | up)[0]


def forked(recipes: Mapping[Recipe, Own]) -> float:
    """All of them, as the output test does. Raises RuntimeError at a difference."""

    def run_one(recipe: Recipe) -> None:
        with places.environment(recipes[recipe]) as addresses:
            run = runner.run_recipe(recipe, addresses)
        if run.code or run.stdout != recipe.output.read_text("utf-8"):
            raise RuntimeError(f"{recipe.id}: {run.stdout}{run.stderr}")

    started = perf_counter()
    with (
        ForkServer() as fork_server,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        runner = Runner(fork_server.address)
        list(pool.map(run_one, in_order(recipes)))
        return perf_counter() - started


def alone(recipe: Recipe, servers: Own) -> float:
    """The file by itself, in an empty directory and in empty places."""
    with (
        places.environment(servers) as addresses,
        tempfile.TemporaryDirectory() as folder,
    ):
        command = [str(recipe.path), *recipe.arguments]
        return seconds(command, Path(folder), environment(addresses))[0]


def seconds(
    arguments: list[str], folder: Path, env: dict[str, str]
) -> tuple[float, str]:
    """Run Python in folder; return the seconds and what it printed.

    Raises RuntimeError if it fails.
    """
    started = perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    took = perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}")
    return took, done.stdout
