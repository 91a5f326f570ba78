"""The built site, served on loopback, and a browser."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from cookbook import catalog, ledger
from cookbook.engines import ENGINES
from cookbook.ledger import EngineUsed, Ledger, Record, TestResult
from cookbook.paths import ROOT
from cookbook.publish import prepare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if not all(item.path.is_relative_to(here) for item in items):
        # asyncio.run() of other tests would meet the loop that Playwright runs.
        raise pytest.UsageError("run tests/site by itself: pytest tests/site")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this checkout, built once for all workers; its ledger is invented:
    most recipes are verified, the first ones are not, each in another way."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    target = folder / "site"
    with FileLock(folder / "site.lock"):
        if not target.is_dir():
            ledger.write(_invented(), folder / "ledger.json")
            prepare()
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
            done = subprocess.run(
                [*command, "--site-dir", str(folder / "new")],
                cwd=ROOT,
                env={
                    **os.environ,
                    "COOKBOOK_LEDGER": str(folder / "ledger.json"),
                    "NO_MKDOCS_2_WARNING": "1",
                },
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr + done.stdout
            (folder / "new").rename(target)
    return target


def _invented() -> Ledger:
    """Records of runs that never were: the site under test is thrown away."""
    records = []
    for number, recipe in enumerate(catalog.all_recipes()):
        status = {0: "failed", 1: "unavailable"}.get(number, "verified")
        used = [
            EngineUsed(
                engine=need,
                name="MariaDB" if need == "mysql" else ENGINES[need].title,
                version="10.11.14",
                provider="native",
                stand_in_for="MySQL" if need == "mysql" else None,
            )
            for need in recipe.needs
        ]
        outcome = {"failed": "failed", "unavailable": "skipped"}.get(status, "passed")
        print_ = ledger.fingerprint(recipe, [one.identity for one in used])
        records.append(
            Record(
                recipe=recipe.id,
                status=status,
                reason="" if status == "verified" else f"test_output: it is {status}",
                engines=tuple(used),
                drivers=ledger.drivers(recipe),
                python="3.11.7",
                started=datetime(2026, 11, 21, 8, 48, tzinfo=UTC),
                seconds=1.25,
                tests=(
                    TestResult(
                        id=f"tests/recipes/test_output.py::test_output[{recipe.id}]",
                        says="It runs to the end and prints what this page shows.",
                        outcome=outcome,
                    ),
                ),
                fingerprint="of older files" if number == 2 else print_,
            )
        )
    return Ledger().updated(records)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(_Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    if not program:
        why = "the tests of the site need a browser: apt-get install chromium"
        if os.environ.get("COOKBOOK_REQUIRE_BROWSER") == "1":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    with sync_playwright() as playwright:
        # As root, and in most containers, Chromium has no sandbox of its own.
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page of the site in a browser; what went wrong is in `faults`."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.address = address
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._asked)

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _failed(self, request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the test went on to another page
            self.faults.append(f"{request.failure}: {request.url}")

    def _asked(self, request) -> None:
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.faults.append(f"asked another host: {request.url}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}/{path}")
        return self.page


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """A page on a desktop, light; no fault may be left at the end."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900},
        color_scheme="light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    visit = Visit(context, address)
    yield visit
    context.close()
    assert not visit.faults
