"""The newest images."""

import re

import pytest

from cookbook.newest import newest_tag
from cookbook.paths import COMPOSE_FILE


@pytest.mark.parametrize(
    ("tag", "known", "newest"),
    [
        ("18.6", ["18", "18.6", "18.10", "18.7", "19.1", "latest"], "18.10"),
        ("18.6", ["18.6-alpine", "18.7-alpine", "17.9"], "18.6"),
        ("8.4.11", ["8.4.9", "8.5.0", "8.4.12", "9.0.0"], "8.5.0"),
        (
            "2022-CU20-ubuntu-22.04",
            ["2022-CU9-ubuntu-22.04", "2022-CU21-ubuntu-22.04", "2022-latest"],
            "2022-CU21-ubuntu-22.04",
        ),
        (
            "23.26.2-slim-faststart",
            ["23.26.3-slim-faststart", "23.26.9-slim", "23.27.0-full-faststart"],
            "23.26.3-slim-faststart",
        ),
        ("4.3.1", [], "4.3.1"),
        ("18.6", ["18x7"], "18.6"),
    ],
)
def test_same_shape_and_first_number(tag, known, newest):
    assert newest_tag(tag, known) == newest


FAKE_SKOPEO = """\
#!/bin/sh
case "$2" in
  docker://postgres) echo '{"Tags": ["18.6", "18.99", "19.0", "latest"]}' ;;
  docker://broken*) echo "denied" >&2; exit 1 ;;
  *) echo '{"Tags": []}' ;;
esac
"""


@pytest.fixture
def skopeo(checkout):
    checkout.write("bin/skopeo", FAKE_SKOPEO)
    (checkout.root / "bin/skopeo").chmod(0o755)
    return {"PATH": f"{checkout.root}/bin:/usr/bin:/bin"}


def test_writes_the_compose_file_and_nothing_else(checkout, skopeo):
    done = checkout.run("cookbook", "newest", **skopeo)
    assert done.returncode == 0, done.stderr
    tag = re.search(r"image: postgres:(\S+)", COMPOSE_FILE.read_text())[1]
    assert done.stdout == f"postgres:{tag} -> postgres:18.99\n"
    text = (checkout.root / "docker-compose.yml").read_text("utf-8")
    old = f"image: postgres:{tag}"
    assert text == COMPOSE_FILE.read_text().replace(old, "image: postgres:18.99")


def test_a_registry_that_does_not_answer_is_one_line(checkout, skopeo):
    checkout.write("docker-compose.yml", "services:\n  x:\n    image: broken:1.0\n")
    done = checkout.run("cookbook", "newest", **skopeo)
    assert done.returncode == 2
    assert done.stderr.strip() == "cookbook: the tags of broken: denied"


def test_without_skopeo_it_says_what_to_install(checkout):
    (checkout.root / "empty").mkdir()
    done = checkout.run("cookbook", "newest", PATH=str(checkout.root / "empty"))
    assert done.returncode == 2
    assert "apt-get install skopeo" in done.stderr
