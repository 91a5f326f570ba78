"""dotenv_file: the environment wins, and values arrive as they were written."""

import logging
import os
import subprocess
import traceback

import dotenv
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from recipes.configuration.dotenv_file import (
    load_env_file,
    read_env_file,
    write_env_file,
)

SECRET = "hunter2-hunter2"


@pytest.fixture
def env_file(tmp_path):
    """Write a .env file by hand, as its owner."""

    def write(text: str, mode: int = 0o600):
        path = tmp_path / ".env"
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return path

    return write


def test_sets_what_is_missing(env_file):
    """What the environment lacks is set; the names are returned, without values."""
    environ = {"HOME": "/root"}
    path = env_file("# for development\n\nA=1\nexport B='two'\n")
    assert load_env_file(path, environ) == ["A", "B"]
    assert environ == {"HOME": "/root", "A": "1", "B": "two"}


def test_the_real_environment_wins(env_file):
    """A variable that is set already is not touched, even if it is empty."""
    environ = {"A": "real", "B": ""}
    assert load_env_file(env_file("A=file\nB=file\nC=file"), environ) == ["C"]
    assert environ == {"A": "real", "B": "", "C": "file"}


def test_is_seen_by_the_process(env_file, monkeypatch):
    """Without a mapping it sets the variables of this process, and of its children."""
    monkeypatch.setenv("COOKBOOK_TEST_A", "x")  # to have it removed again
    monkeypatch.delenv("COOKBOOK_TEST_A")
    load_env_file(env_file("COOKBOOK_TEST_A=file"))
    command = ["sh", "-c", "echo $COOKBOOK_TEST_A"]
    assert subprocess.check_output(command, text=True) == "file\n"


@pytest.mark.parametrize(
    "value",
    [
        "p@ss/w:rd#1%41?;}{`",
        " blanks around ",
        "a #comment",
        "it's",
        '"quoted"',
        "back\\slash \\n \\' \\",
        "${HOME} $HOME $(id)",
        "two\nlines\r\n",
        "grün 🙂",
        "'",
        "",
    ],
)
def test_every_sign_arrives(tmp_path, value):
    """A written value is read again as it was: with `#`, quotes, backslashes,
    `${HOME}`, line ends, blanks around it, a smiley."""
    path = tmp_path / ".env"
    write_env_file(path, {"PASSWORD": value, "NEXT": "1"})
    assert read_env_file(path) == {"PASSWORD": value, "NEXT": "1"}


def test_a_hostile_password_logs_in(postgresql, tmp_path):
    """A password with quotes, blanks, `$` and `#` goes through the file and logs in."""
    password = "p@ss '1' #2 ${HOME} \\ \"x\" grün"
    with psycopg.connect(postgresql, autocommit=True) as admin:
        role = f"r_{admin.info.dbname}"
        literal = psycopg.sql.quote(password, admin)
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD {literal}")
        try:
            write_env_file(tmp_path / ".env", {"PGPASSWORD": password})
            read = read_env_file(tmp_path / ".env")["PGPASSWORD"]
            dsn = make_conninfo(postgresql, user=role, password=read)
            with psycopg.connect(dsn) as conn:
                assert conn.info.user == role
        finally:
            admin.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_others_may_not_read_it(env_file, mode):
    """A file that the group or others may read or write is refused."""
    with pytest.raises(PermissionError, match="chmod 600"):
        read_env_file(env_file("A=1", mode))


def test_is_private_from_its_first_moment(tmp_path):
    """The file is written for its owner alone, whatever the umask."""
    before = os.umask(0)
    try:
        write_env_file(tmp_path / ".env", {"A": "1"})
    finally:
        os.umask(before)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_never_overwrites_a_file(env_file):
    """A file that is there is not overwritten."""
    path = env_file("A=1")
    with pytest.raises(FileExistsError):
        write_env_file(path, {"B": "2"})
    assert read_env_file(path) == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"A=1\nPASSWORD {SECRET}\n", "line 2: not NAME=value"),
        (f"PASSWORD='{SECRET}\nA=1\n", "line 1: not NAME=value"),
        ("A\n", "line 1: not NAME=value"),
        (f"A=1\nA={SECRET}\n", "line 2: A for the second time"),
    ],
    ids=["no-equals-sign", "open-quote", "name-alone", "twice"],
)
def test_refused(env_file, text, says):
    """A line that is no NAME=value, an open quote or a name that is there twice is an
    error that names the line, shows no value, and sets nothing."""
    environ = {}
    with pytest.raises(ValueError, match=says) as raised:
        load_env_file(env_file(text), environ)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert environ == {}


def test_no_file(tmp_path):
    """A file that is not there is an error, not an empty one."""
    with pytest.raises(FileNotFoundError):
        load_env_file(tmp_path / ".env", {})


# --8<-- [start:wrong]
def load_as_often_copied(path):
    dotenv.load_dotenv(path, override=True)


# --8<-- [end:wrong]


def test_often_copied_replaces_the_real_environment(env_file, monkeypatch):
    """Often copied: a `.env` that was left in the image replaces the address that the
    platform has set."""
    monkeypatch.setenv("DATABASE_ADDRESS", "production")
    load_as_often_copied(env_file("DATABASE_ADDRESS=development"))
    assert os.environ["DATABASE_ADDRESS"] == "development"


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("SECRET=p@ss #1", "p@ss"),
        ('SECRET="a\\new"', "a\new"),
        ("SECRET='it'", "it"),
        ("SECRET=pa${NO_SUCH}ss", "pass"),
    ],
    ids=["hash", "backslash", "quotes", "braces"],
)
def test_often_copied_changes_the_password(env_file, monkeypatch, line, becomes):
    """Often copied: ` #` ends the value, `\\n` in double quotes is a line end, quotes
    are removed, and `${...}` is replaced: by nothing, if there is no such variable."""
    monkeypatch.setenv("SECRET", "x")
    load_as_often_copied(env_file(line))
    assert os.environ["SECRET"] == becomes


def test_often_copied_says_nothing_of_a_missing_file(tmp_path):
    """Often copied: a file that is not there is no error."""
    load_as_often_copied(tmp_path / "none")


def test_often_copied_skips_a_bad_line(env_file, monkeypatch, caplog):
    """Often copied: a line that cannot be read is a warning in a log, and skipped."""
    monkeypatch.setenv("SECRET", "old")
    with caplog.at_level(logging.WARNING):
        load_as_often_copied(env_file("SECRET='open\n"))
    assert os.environ["SECRET"] == "old"
    assert "could not parse" in caplog.text
