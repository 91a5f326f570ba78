"""Servers in containers beside servers without: until they are ready, and a whole run.

It needs a Docker engine that has, or can pull, the images. The groups with the name of
an engine are one start each, until the first client call succeeds; the group `chapters`
is the tests and outputs of the chapters, the start of the servers included.
"""

from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.common import Progress, Way, chart, interleaved
from benchmarks.harness import copy_of_checkout, of_the_copy, seconds
from cookbook.engines import compose, engine
from cookbook.engines.base import Provider
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Chart
from cookbook.servers import Servers, choose

ENGINES = ("postgresql", "mysql", "redis")


def run(quick: bool, progress: Progress) -> Chart:
    """Measure with the engines that have both. Raises UnavailableError: no Docker."""
    if reason := compose.why_not():
        raise UnavailableError(f"containers cannot be measured: {reason}")
    runs = 1 if quick else 5
    names = ENGINES[-1:] if quick else ENGINES
    groups = {}
    for name in names:
        providers: list[Provider] = [choose(engine(name)).provider, "container"]
        groups[name] = interleaved(
            [
                Way(product(name, one), "recipe", partial(start, name, one))
                for one in providers
            ],
            runs,
            progress,
        )
    with copy_of_checkout() as checkout:
        command = ["-m", "pytest", "-q", "-n2", "--ledger=build/containers.json"]
        command += ["tests/recipes/test_output.py"]
        command += [f"tests/recipes/{name}" for name in names]
        command += [f"--recipe={name}" for name in names]
        env = of_the_copy(checkout)
        ways = [
            Way(
                f"{len(names)} chapters, {label}",
                "recipe",
                partial(whole_run, command, checkout, env | chosen),
            )
            for label, chosen in (
                ("without containers", {}),
                ("in containers", {"COOKBOOK_PROVIDER": "container"}),
            )
        ]
        groups["chapters"] = interleaved(ways, min(runs, 3), progress)
    title = "Seconds, with the start of the servers."
    return chart(title, "s", "lower", runs, {}, groups)


def start(name: str, provider: Provider) -> float:
    """Start the server and stop it; the seconds until it answered."""
    servers = Servers()
    started = perf_counter()
    try:
        servers.start([name], provider)
        took = perf_counter() - started
    finally:
        servers.stop()
    if reason := servers.missing.get(name):
        raise UnavailableError(reason)
    return took


def whole_run(command: list[str], checkout: Path, env: dict[str, str]) -> float:
    return seconds(command, checkout, env)[0]


def product(name: str, provider: Provider) -> str:
    """What the server says it is, and where it runs."""
    servers = Servers()
    try:
        servers.start([name], provider)
        return f"{servers.running[name].label} ({provider})"
    finally:
        servers.stop()
