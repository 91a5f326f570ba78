"""`cookbook publish`: the downloads, the link check, the server."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile

import pytest

from cookbook import catalog, publish
from cookbook.paths import ROOT


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "sqlite").mkdir(parents=True)
    (folder / "sqlite/connect.py").write_text("print(1)\n")
    monkeypatch.setattr(catalog, "RECIPES", folder)
    return folder


def test_downloads_are_copied_once_and_removed_with_the_recipe(recipes, tmp_path):
    target = tmp_path / "docs"
    copy = target / "sqlite/connect.py"
    publish.copy_recipes(target)
    assert copy.read_text() == "print(1)\n"
    written = copy.stat().st_mtime_ns
    publish.copy_recipes(target)
    assert copy.stat().st_mtime_ns == written, "or each build would start another"
    (recipes / "sqlite/connect.py").write_text("print(2)\n")
    publish.copy_recipes(target)
    assert copy.read_text() == "print(2)\n"
    (recipes / "sqlite/connect.py").unlink()
    publish.copy_recipes(target)
    assert not copy.exists()


def test_a_package_is_one_zip_with_its_folder(recipes, tmp_path):
    (recipes / "sqlite/app").mkdir()
    (recipes / "sqlite/app/__main__.py").write_text("import app.words\n")
    (recipes / "sqlite/app/words.toml").write_text("word = 1\n")
    target = tmp_path / "docs"
    publish.copy_recipes(target)
    packed = target / "sqlite/app.zip"
    with zipfile.ZipFile(packed) as content:
        assert content.namelist() == ["app/__main__.py", "app/words.toml"]
        assert content.read("app/words.toml") == b"word = 1\n"
    written = packed.stat().st_mtime_ns
    publish.copy_recipes(target)
    assert packed.stat().st_mtime_ns == written
    assert not (target / "sqlite/app").exists()
    (recipes / "sqlite/app/__main__.py").unlink()
    publish.copy_recipes(target)
    assert not packed.exists()


@pytest.mark.parametrize(
    ("link", "sound"),
    [
        ("other/", True),
        ("other/#there", True),
        ("nowhere/", False),
        ("other/#nowhere", False),
        ("https://example.com/nobody-asks-this", True),
    ],
)
def test_links_inside_of_the_site_are_checked(tmp_path, monkeypatch, link, sound):
    (tmp_path / "other").mkdir()
    page = "<!doctype html><title>A page</title><h1 id=there>A page</h1>"
    (tmp_path / "other/index.html").write_text(page)
    (tmp_path / "index.html").write_text(f'{page}<a href="{link}">link</a>')
    monkeypatch.setattr(publish, "SITE", tmp_path)
    assert (publish._check_links() == 0) is sound


def test_another_port_where_the_usual_one_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind((publish.HOST, 0))
        taken.listen()
        monkeypatch.setattr(publish, "PORT", taken.getsockname()[1])
        assert publish._free_port() not in (0, publish.PORT)


SERVE = """
import signal
from cookbook import publish

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background: ignored
raise SystemExit(publish.publish(serve=True))
"""


@pytest.mark.timeout(400)
def test_serve_answers_and_ends_with_ctrl_c():
    serving = subprocess.Popen(
        [sys.executable, "-u", "-c", SERVE],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told = ""
        address = None
        for line in serving.stdout:
            told += line
            if "Serving on " in line:
                address = line.partition("Serving on ")[2].strip()
                break
        assert address, told
        # Nobody reads the rest, and a full pipe would hold it up.
        rest = threading.Thread(target=serving.stdout.read)
        rest.start()
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"Python Database Cookbook" in answer.read()
        os.killpg(serving.pid, signal.SIGINT)
        deadline = time.monotonic() + 240  # it may be building
        while serving.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert serving.poll() == 0
    finally:
        if serving.poll() is None:
            os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()
        if address:
            rest.join()
        serving.stdout.close()
