"""What the tests share: runs of pytest in a project of a reader's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[3] / "recipes/testing"


def docker_ps(*filters: str) -> set[str]:
    """The ids of the containers, running or not."""
    command = ["docker", "ps", "--all", "--quiet", "--no-trunc"]
    command += [f"--filter={it}" for it in filters]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def run_pytest(
    folder: Path, *arguments: str, env: dict[str, str], **files: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest in that directory, with these files in it and no plugin of ours."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n")
    ours = ("COOKBOOK_", "PYTEST_")
    own = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", *arguments],
        cwd=folder,
        env={**own, "PYTHONPATH": str(RECIPES), **env},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def project(tmp_path, docker):
    """Run pytest in a directory with these files."""

    def run(*arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
        env = {"DOCKER_HOST": str(docker)}
        return run_pytest(tmp_path, *arguments, env=env, **files)

    return run
