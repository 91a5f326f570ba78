# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "typer>=0.20"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Write a command line for a database.

With Typer. A script that calls it can trust the exit code, and a person gets one line
in place of a traceback. The password stays out of the arguments, which `ps` shows.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import psycopg
import typer

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

SCHEMA = """CREATE TABLE account (
    name text PRIMARY KEY,
    balance numeric(12, 2) NOT NULL CONSTRAINT no_overdraft CHECK (balance >= 0)
)"""

# --8<-- [start:cli]
cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@cli.callback()  # without it, an application with one command has no command names
def database() -> None:
    """Look after accounts, in the database that POSTGRESQL_URL names."""


@contextmanager
def transaction() -> Iterator[psycopg.Connection]:
    """A connection: committed at the end, or one line on stderr and an exit code.

    Exit 1: the database refused. Exit 69: it cannot be reached, so try again later.
    """
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    limit = "-c statement_timeout=30s"
    try:
        with psycopg.connect(url, connect_timeout=5, options=limit) as conn:
            yield conn
    except psycopg.OperationalError as error:
        typer.echo(f"Error: database unavailable ({type(error).__name__})", err=True)
        raise typer.Exit(69) from error  # os.EX_UNAVAILABLE
    except psycopg.Error as error:
        typer.echo(f"Error: {error.diag.message_primary}", err=True)
        raise typer.Exit(1) from error


def amount(text: str) -> Decimal:
    """A click parameter: euros and cents, neither a float nor NaN."""
    if not re.fullmatch(r"-?\d{1,10}(\.\d\d?)?", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not an amount such as 19.90")
    return Decimal(text)


@cli.command()
def init() -> None:
    """Create the table."""
    with transaction() as conn:
        conn.execute(SCHEMA)


@cli.command(context_settings={"ignore_unknown_options": True})  # -5 is an amount
def deposit(
    name: str, euros: Annotated[Decimal, typer.Argument(parser=amount)]
) -> None:
    """Add EUROS to the account of NAME, and open it if need be."""
    with transaction() as conn:
        query = "INSERT INTO account VALUES (%s, 0) ON CONFLICT DO NOTHING"
        conn.execute(query, (name,))
        query = "UPDATE account SET balance = balance + %s WHERE name = %s"
        conn.execute(query, (euros, name))


@cli.command()
def show() -> None:
    """Print name and balance of each account, with a tab between them."""
    with transaction() as conn:
        for name, balance in conn.execute("SELECT * FROM account ORDER BY name"):
            typer.echo(f"{name}\t{balance}")


# --8<-- [end:cli]


def main() -> None:
    if len(sys.argv) > 1:
        cli()
    os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    for line in ("init", "deposit ann 30.10", "deposit ann -40", "show"):
        print(f"$ accounts {line}")
        if code := cli(line.split(), standalone_mode=False):
            print(f"exit code {code}")


if __name__ == "__main__":
    main()
