"""The newest image of every engine: what docker-compose.yml would name tomorrow.

Newest means the same tag with greater numbers, and the same first one: 18.6 becomes
18.7, `2022-CU20-ubuntu-22.04` becomes `2022-CU21-ubuntu-22.04`. A new major version is
a decision, and for InfluxDB another product.
"""

import json
import re
import subprocess
from collections.abc import Iterable

from cookbook.errors import UnavailableError
from cookbook.fetch import tool
from cookbook.paths import COMPOSE_FILE

_IMAGE = re.compile(r"(?m)^(    image: )(\S+):([^\s:]+)")


def newest_tag(tag: str, known: Iterable[str]) -> str:
    """Of the tags of the same shape and the same first number, the greatest."""
    shape = re.compile(re.sub(r"\d+", lambda _: r"(\d+)", re.escape(tag)))

    def numbers(other: str) -> list[int]:
        found = shape.fullmatch(other)
        return [int(number) for number in found.groups()] if found else []

    own = numbers(tag)
    same = [other for other in known if numbers(other)[:1] == own[:1]]
    return max([tag, *same], key=numbers)


def upgrade() -> dict[str, str]:
    """Write the newest tags into docker-compose.yml; return what changed.

    Raises UnavailableError where skopeo is missing, or a registry does not answer.
    """
    changed: dict[str, str] = {}

    def replace(found: re.Match[str]) -> str:
        start, image, tag = found.groups()
        new = newest_tag(tag, _tags(image))
        if new != tag:
            changed[f"{image}:{tag}"] = f"{image}:{new}"
        return f"{start}{image}:{new}"

    text = COMPOSE_FILE.read_text("utf-8")
    COMPOSE_FILE.write_text(_IMAGE.sub(replace, text), "utf-8")
    return changed


def _tags(image: str) -> list[str]:
    skopeo = tool("skopeo", "apt-get install skopeo")
    command = [skopeo, "list-tags", f"docker://{image}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["skopeo failed"]
        raise UnavailableError(f"the tags of {image}: {said[0]}")
    return [str(tag) for tag in json.loads(done.stdout)["Tags"]]
