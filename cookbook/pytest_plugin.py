"""The pytest plugin: servers, empty places, the output test, and the ledger.

The controller starts the servers once; the workers of xdist are told their addresses.
For each engine there is a fixture of its name: the address of an empty place.
"""

import functools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from cookbook import catalog, environments, places
from cookbook.catalog import Recipe
from cookbook.engines import ENGINES, engine, serving
from cookbook.engines.base import Provider, Server
from cookbook.errors import CookbookError
from cookbook.paths import LEDGER, TESTS
from cookbook.runner import ForkServer, Runner, in_order
from cookbook.servers import Servers, expected_identity, forced_provider

if TYPE_CHECKING:  # the workers need none of it, and it takes a quarter of a second
    from cookbook.evidence import Evidence

_SERVERS = pytest.StashKey[Servers]()
_REQUIRED = pytest.StashKey[frozenset[str]]()
_EVIDENCE: "pytest.StashKey[Evidence]" = pytest.StashKey()
_FORK_SERVER = pytest.StashKey[str]()  # its address
_OUTPUT_TEST = TESTS / "test_output.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cookbook")
    group.addoption(
        "--provider",
        help="external, embedded, native or container (COOKBOOK_PROVIDER)",
    )
    group.addoption(
        "--require",
        help="engines that must be there, or `all`: their absence fails the tests"
        " in place of skipping them (COOKBOOK_REQUIRE)",
    )
    group.addoption(
        "--recipe", action="append", default=[], help="test the output of these alone"
    )
    group.addoption(
        "--update-outputs",
        action="store_true",
        help="write what the recipes print to their .out files",
    )
    group.addoption(
        "--ledger", default=str(LEDGER), help="where to write what was proved"
    )


# A recipe with an environment of its own is collected there, and nowhere else.


@functools.cache
def _here() -> list[Recipe]:
    """The recipes that run in this environment."""
    current = environments.current()
    return [one for one in catalog.all_recipes() if one.environment == current]


@functools.cache
def _tests(is_here: bool) -> frozenset[Path | None]:
    recipes = _here() if is_here else set(catalog.all_recipes()) - set(_here())
    return frozenset(recipe.test for recipe in recipes)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if environments.current() is None:
        return collection_path in _tests(False) - _tests(True) or None
    wanted = _tests(True) | {_OUTPUT_TEST}
    return not any(it and it.is_relative_to(collection_path) for it in wanted) or None


# Servers: started by the controller before the workers, stopped after them.


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REQUIRED] = _required(config)
    servers = config.stash[_SERVERS] = Servers()
    if told := getattr(config, "workerinput", None):
        running = told["cookbook_running"]
        servers.running.update({k: Server(**v) for k, v in running.items()})
        servers.missing.update(told["cookbook_missing"])
        servers.broken.update(told["cookbook_broken"])
        config.stash[_FORK_SERVER] = told["cookbook_fork_server"]
        return
    from cookbook.evidence import Evidence

    config.stash[_EVIDENCE] = Evidence()
    if config.option.collectonly or config.option.help or config.option.version:
        return
    try:
        forced = forced_provider(config.option.provider)
        wanted = _wanted(config, forced)
    except CookbookError as error:
        raise pytest.UsageError(str(error)) from None
    if not wanted:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # or the servers would survive us
    if any(_OUTPUT_TEST.is_relative_to(path) for path in _paths(config)):
        fork_server = ForkServer()
        config.stash[_FORK_SERVER] = fork_server.address
        config.add_cleanup(fork_server.close)
    servers.start(wanted, forced)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    servers = node.config.stash[_SERVERS]
    running = {name: asdict(server) for name, server in servers.running.items()}
    node.workerinput["cookbook_running"] = running
    node.workerinput["cookbook_missing"] = servers.missing
    node.workerinput["cookbook_broken"] = sorted(servers.broken)
    node.workerinput["cookbook_fork_server"] = node.config.stash.get(_FORK_SERVER, "")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash.get(_SERVERS, Servers()).stop()


def pytest_report_header(config: pytest.Config) -> list[str]:
    servers = config.stash[_SERVERS]
    lines = [f"{s.engine}: {s.label} ({s.provider})" for s in servers.running.values()]
    lines += [f"{name}: {reason}" for name, reason in servers.missing.items()]
    here = environments.current()
    return sorted(lines) + ([f"environment: {here}"] if here else [])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _required(config: pytest.Config) -> frozenset[str]:
    names = config.option.require or os.environ.get("COOKBOOK_REQUIRE", "")
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    try:
        known = {name: engine(name) for name in wanted if name != "all"}
        every = (name for name, one in ENGINES.items() if not one.is_any)
        required = frozenset(every if "all" in wanted else known)
        if required and environments.current():
            forced = forced_provider(config.option.provider)
            required &= set(_wanted(config, forced))
        elif required:
            required -= _only_elsewhere()
    except CookbookError as error:
        raise pytest.UsageError(f"required: {error}") from None
    return required


def _only_elsewhere() -> set[str]:
    """The engines that only recipes in environments of their own need."""

    def serving_some(recipes: list[Recipe]) -> set[str]:
        needs = {need for recipe in recipes for need in recipe.needs}
        return {one.name for need in needs for one in serving(need)}

    return serving_some(catalog.all_recipes()) - serving_some(_here())


def _wanted(config: pytest.Config, forced: Provider | None) -> list[str]:
    """The engines to start for what the command line asks for."""
    needs = {need for recipe in _in_scope(config) for need in recipe.needs}
    return sorted({name for need in needs for name in _to_start(need, forced)})


def _in_scope(config: pytest.Config) -> list[Recipe]:
    """The recipes whose tests, or whose output, the command line asks for."""
    args = _paths(config)
    asked = set(_asked(config))

    def is_asked(path: Path | None) -> bool:
        return path is not None and any(path.is_relative_to(arg) for arg in args)

    output = is_asked(_OUTPUT_TEST)
    return [
        recipe
        for recipe in _here()
        if (output and recipe in asked) or is_asked(recipe.test)
    ]


def _paths(config: pytest.Config) -> list[Path]:
    return [Path(arg.partition("::")[0]).absolute() for arg in config.args]


def _asked(config: pytest.Config) -> list[Recipe]:
    """Those of this environment; in the main one, also those whose own is not made."""
    patterns = config.option.recipe or ["*"]
    found = {recipe for pattern in patterns for recipe in catalog.find(pattern)}
    here = environments.current()
    some = [one for one in found if one.environment == here or not (here or _made(one))]
    return in_order(some)


def _made(recipe: Recipe) -> bool:
    """Is the recipe's own environment here?"""
    own = environments.of(recipe)
    return own is not None and own.is_fetched


def _to_start(need: str, forced: Provider | None) -> list[str]:
    """The need's own engine, then those that serve it by another program."""
    first, *others = serving(need)
    if not others:
        return [first.name]
    programs: set[str | None] = set()
    wanted = []
    for one in (first, *others):
        program = expected_identity(one, forced)
        if program is None or program not in programs:
            wanted.append(one.name)
            programs.add(program)
    return wanted


# Places: the fixture of an engine gives the address of an empty one.


def _engines_to_run(servers: Servers, fixture: str) -> list[str]:
    """The fixture's own engine, then those that serve it and are something else."""
    own, *others = (e.name for e in serving(fixture))
    products = {servers.running[own].product} if own in servers.running else set()
    names = [own]
    for name in others:
        server = servers.running.get(name)
        if server and server.product not in products:
            names.append(name)
            products.add(server.product)
    return names


def _server(request: pytest.FixtureRequest, name: str) -> Server:
    """The running server; where there is none, the test is skipped, or fails."""
    servers = request.config.stash[_SERVERS]
    if name in servers.running:
        return servers.running[name]
    reason = servers.missing.get(name)
    if reason is None:
        pytest.fail(f"{name} was not started: name it in the recipe's `needs`")
    if name in servers.broken:
        pytest.fail(reason, pytrace=False)
    if name in request.config.stash[_REQUIRED]:
        pytest.fail(f"{name} is required: {reason}", pytrace=False)
    pytest.skip(reason)


def _fixture_for(fixture: str) -> Any:
    @pytest.fixture(name=fixture)
    def place(request: pytest.FixtureRequest) -> Iterator[str]:
        name = getattr(request, "param", fixture)
        request.node.user_properties.append(("engine", [fixture, name]))
        with places.place(fixture, _server(request, name)) as address:
            yield address

    place.__doc__ = f"The address of an empty place in {engine(fixture).title}."
    return place


for _engine in ENGINES:
    globals()[f"_place_{_engine}"] = _fixture_for(_engine)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    servers = metafunc.config.stash[_SERVERS]
    if "recipe" in metafunc.fixturenames and "addresses" in metafunc.fixturenames:
        _parametrize_outputs(metafunc, servers)
        return
    for fixture in metafunc.fixturenames:
        if fixture in ENGINES:
            names = _engines_to_run(servers, fixture)
            if names != [fixture]:
                metafunc.parametrize(fixture, names, indirect=True)


# The output test: every recipe, on every engine that it runs on.


def _parametrize_outputs(metafunc: pytest.Metafunc, servers: Servers) -> None:
    cases = []
    for recipe in _asked(metafunc.config):
        options = [_engines_to_run(servers, need) for need in recipe.needs]
        for combination in _combinations(options):
            pairs = list(zip(recipe.needs, combination, strict=True))
            name = "-".join([recipe.id, *(e for n, e in pairs if e != n)])
            cases.append(pytest.param(recipe, pairs, id=name))
    metafunc.parametrize(("recipe", "addresses"), cases, indirect=["addresses"])


def _combinations(options: list[list[str]]) -> list[tuple[str, ...]]:
    """Every engine of every need once: the needs go side by side, not crossed."""
    longest = max(map(len, options), default=1)
    return [tuple(names[i % len(names)] for names in options) for i in range(longest)]


@pytest.fixture
def addresses(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a recipe: the variable of each engine it needs."""
    for fixture, name in request.param:
        request.node.user_properties.append(("engine", [fixture, name]))
    recipe = request.node.callspec.params["recipe"]
    if recipe.environment != environments.current():
        pytest.skip(environments.missing(recipe.environment))
    wanted = [(fixture, _server(request, name)) for fixture, name in request.param]
    with places.environment(wanted) as variables:
        yield variables


@pytest.fixture(scope="session")
def runner(pytestconfig: pytest.Config) -> Iterator[Runner]:
    """Runs recipes in processes of their own."""
    if shared := pytestconfig.stash.get(_FORK_SERVER, None):
        yield Runner(shared)
        return
    with ForkServer() as own:
        yield Runner(own.address)


# Evidence: the controller hears of every test, and writes the ledger.


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    # Before anything is deselected: a recipe counts when all its tests have run.
    whole = not any("::" in arg for arg in config.args)
    counts: dict[str, int] = {}
    proves = {item: _proved_by(item) for item in items}
    for recipe in (recipe for recipes in proves.values() for recipe in recipes):
        counts[recipe] = counts.get(recipe, 0) + 1
    for item, recipes in proves.items():
        if recipes:
            totals = {recipe: counts[recipe] if whole else -1 for recipe in recipes}
            item.user_properties.append(("totals", totals))
            item.user_properties.append(("is_run", item.path == _OUTPUT_TEST))
            says = getattr(item, "function", item).__doc__ or item.name
            item.user_properties.append(
                ("says", " ".join(says.split("\n\n")[0].split()))
            )


@functools.cache
def _by_test_file() -> dict[object, list[str]]:
    found: dict[object, list[str]] = {}
    for recipe in catalog.all_recipes():
        found.setdefault(recipe.test, []).append(recipe.id)
    return found


def _proved_by(item: pytest.Item) -> list[str]:
    """The ids of the recipes of which a test speaks."""
    callspec = getattr(item, "callspec", None)
    recipe = callspec.params.get("recipe") if callspec else None
    if isinstance(recipe, Recipe):
        return [recipe.id]
    return _by_test_file().get(item.path, [])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if _current is not None and _EVIDENCE in _current.stash:
        _current.stash[_EVIDENCE].add(report)


_current: pytest.Config | None = None  # the hook above is not given it


def pytest_sessionstart(session: pytest.Session) -> None:
    global _current
    _current = session.config


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if _EVIDENCE not in config.stash or config.option.collectonly:
        return
    evidence, servers = config.stash[_EVIDENCE], config.stash[_SERVERS]
    if not config.option.update_outputs:  # a run that wrote what it expects is no proof
        from cookbook import ledger

        records = evidence.records(servers)
        path = Path(config.option.ledger)
        if records:
            ledger.write(ledger.read(path).updated(records), path)
    unused = config.stash[_REQUIRED] - evidence.engines_that_ran(servers)
    if unused and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    evidence, servers = config.stash[_EVIDENCE], config.stash[_SERVERS]
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(it.longrepr[2].removeprefix("Skipped: ") for it in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
    for name in sorted(config.stash[_REQUIRED] - evidence.engines_that_ran(servers)):
        reason = servers.missing.get(name, "no test asked for it")
        terminalreporter.write_line(f"{name} is required and ran no test: {reason}")
