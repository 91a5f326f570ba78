"""What the tests of both recipes share: runs of pytest in a project of a reader's."""

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


@pytest.fixture
def project(tmp_path, docker):
    """Run pytest in a directory with these files."""

    def run(*arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        ours = ("COOKBOOK_", "COVERAGE_", "COV_", "PYTEST_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:randomly", *arguments],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(RECIPES), "DOCKER_HOST": str(docker)},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run
