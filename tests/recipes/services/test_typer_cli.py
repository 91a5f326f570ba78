import psycopg
import pytest
import typer
from click import unstyle
from typer.testing import CliRunner

from recipes.services import typer_cli


@pytest.fixture
def run(postgresql, monkeypatch):
    """Run a command line; the result has exit_code, stdout and stderr."""
    monkeypatch.setenv("POSTGRESQL_URL", postgresql)
    runner = CliRunner()
    return lambda *args: runner.invoke(typer_cli.cli, args)


@pytest.fixture
def accounts(run):
    assert run("init").exit_code == 0
    return run


def test_deposits(accounts):
    """Deposits add up to the cent; the list goes to stdout, with tabs."""
    for line in ("bob 0.10", "ann 30.10", "ann 0.20"):
        assert accounts("deposit", *line.split()).exit_code == 0
    assert accounts("show").stdout == "ann\t30.30\nbob\t0.10\n"


def test_negative_amount(accounts):
    """An amount below zero is an amount and not an option."""
    accounts("deposit", "ann", "30")
    assert accounts("deposit", "ann", "-10.50").exit_code == 0
    assert accounts("show").stdout == "ann\t19.50\n"


def test_refused_by_the_database(accounts):
    """What the database refuses: exit 1, one line on stderr, and nothing changed."""
    accounts("deposit", "ann", "30")
    done = accounts("deposit", "ann", "-40")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "no_overdraft" in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert accounts("show").stdout == "ann\t30.00\n"


@pytest.mark.parametrize("text", ["1.005", "NaN", "1e3", "ten", "٣", ""])
def test_bad_amount(accounts, text):
    """What is no amount in euros and cents is a usage error: exit 2, and no change."""
    done = accounts("deposit", "ann", text)
    assert done.exit_code == 2
    assert "such as 19.90" in unstyle(done.stderr)
    assert accounts("show").stdout == ""


def test_unavailable(accounts, postgresql, fault_proxy, monkeypatch):
    """Without the database: exit 69, one line, and neither host nor password in it."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    monkeypatch.setenv("POSTGRESQL_URL", proxy.url)
    done = accounts("show")
    assert done.exit_code == 69
    assert done.stderr == "Error: database unavailable (OperationalError)\n"


def test_no_address(run, monkeypatch):
    """Without the variable it says which one to set, and exits with 1."""
    monkeypatch.delenv("POSTGRESQL_URL")
    done = run("show")
    assert done.exit_code == 1
    assert typer_cli.NO_SERVER in done.output


def test_statement_timeout(run):
    """Each connection has a limit for a statement."""
    with typer_cli.transaction() as conn:
        assert conn.execute("SHOW statement_timeout").fetchone() == ("30s",)


def test_bug_is_not_hidden(accounts, monkeypatch):
    """An error that is not the database's is a bug, and keeps its traceback."""
    monkeypatch.setattr(typer_cli, "Decimal", lambda text: {}[text])
    done = accounts("deposit", "ann", "1")
    assert isinstance(done.exception, KeyError)


def test_help(run):
    """Each command is in the help, with its sentence."""
    said = unstyle(run("--help").stdout)
    for command in ("init", "deposit", "show", "Create the table."):
        assert command in said


def test_main_takes_arguments(accounts, monkeypatch, capsys):
    """Given arguments, the file is the command line."""
    monkeypatch.setattr("sys.argv", ["accounts", "deposit", "ann", "7"])
    with pytest.raises(SystemExit) as end:
        typer_cli.main()
    assert end.value.code == 0
    assert accounts("show").stdout == "ann\t7.00\n"


# --8<-- [start:wrong]
app = typer.Typer()


@app.command()
def whoami(dsn: str):
    with psycopg.connect(dsn) as conn:
        print(conn.execute("SELECT current_user").fetchone()[0])


# --8<-- [end:wrong]


def test_often_copied_has_no_such_command(postgresql):
    """Often copied: with one command, its name is taken for one argument too many."""
    done = CliRunner().invoke(app, ["whoami", postgresql])
    assert done.exit_code == 2
    assert "unexpected extra argument" in unstyle(done.stderr)


def test_often_copied_tracebacks(postgresql, fault_proxy):
    """Often copied: without its database it ends in a traceback, which names host,
    port and user."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    done = CliRunner().invoke(app, [proxy.url])
    assert isinstance(done.exception, psycopg.OperationalError)
    assert str(proxy.port) in str(done.exception)
