"""How much memory a call takes, measured in a process of its own."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]

MEASURE = """
import importlib, json, sys
from tests.recipes.support.memory import peak

module, name, few, many = json.loads(sys.argv[1])
function = getattr(importlib.import_module(module), name)
function(*few)
before = peak()
function(*many)
print(peak() - before)
"""

MB = 1_000_000


def peak() -> int:
    """The most memory, in bytes, that this process has had since it began."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count the parent's too
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def memory_growth(
    function: Callable[..., Any], few: tuple[Any, ...], many: tuple[Any, ...]
) -> int:
    """By how many bytes the peak rises in a call with `many`, after one with `few`.

    The function is one of a module; its arguments are what JSON can hold.
    """
    asked = json.dumps([function.__module__, function.__name__, few, many])
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)
