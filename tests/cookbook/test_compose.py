"""docker-compose.yml holds every engine, on loopback, and is valid."""

import re
import shutil
import subprocess
import sys

import pytest

from cookbook.engines import ENGINES, compose
from cookbook.paths import COMPOSE_FILE

SERVED = [one for one in ENGINES.values() if one.port]


def test_keeps_the_schema_of_compose():
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(COMPOSE_FILE)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_docker_compose_accepts_it():
    command = ["docker", "compose", "-f", str(COMPOSE_FILE), "--profile", "all"]
    if (
        not shutil.which("docker")
        or subprocess.run(
            ["docker", "compose", "version"], capture_output=True
        ).returncode
    ):
        pytest.skip("the compose plugin of Docker is not installed; the schema holds")
    done = subprocess.run([*command, "config", "-q"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("one", SERVED, ids=lambda one: one.name)
def test_has_a_service_for_the_engine(one):
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", compose.image(one)), "pin the image"
    text = COMPOSE_FILE.read_text("utf-8")
    port = re.search(
        rf"127\.0\.0\.1:\$\{{COOKBOOK_{one.name.upper()}_PORT:-(\d+)\}}", text
    )
    assert port, "publish its port on loopback, movable"
    assert re.search(
        rf"[:,=]{port[1]}\b", "/".join(one.variables(one.example).values())
    )


def test_publishes_nothing_beyond_loopback():
    for line in re.findall(
        r"(?m)^    ports: \[(.*)\]$", COMPOSE_FILE.read_text("utf-8")
    ):
        assert line.startswith('"127.0.0.1:')
