"""The command line: `check` for cron, `trend` for a chart, `demo` to see it work."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from . import demo, history, runner
from .charts import image, trend_chart
from .config import Config, ConfigError, load, secret
from .database import open_engine
from .perform import perform
from .status import NOT_CHECKED, Run

app = typer.Typer(
    help="Check the data in a database.",
    epilog="Exit codes: 0 good, warnings included; 1 bad data; 2 something could not"
    " be checked, kept, written or sent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigFile = Annotated[Path, typer.Argument(help="the TOML file")]


# --8<-- [start:check]
@app.command()
def check(
    config_file: ConfigFile,
    mail: Annotated[bool, typer.Option(help="send the alert, if it is due")] = True,
) -> None:
    """Run all checks, keep the results, write the report, send the alert."""
    try:
        config = load(config_file)
        run, problems = perform(config, datetime.now(UTC), mail)
    except ConfigError as error:
        problem(str(error))
        raise typer.Exit(NOT_CHECKED) from None
    show(run, config, problems)
    raise typer.Exit(NOT_CHECKED if problems else run.exit_code)


# --8<-- [end:check]


def show(run: Run, config: Config, problems: list[str]) -> None:
    for result in run.results:
        typer.echo(f"{result.status:5}  {result.name}: {result.message}")
    typer.echo(f"{run.summary}; report in {config.report.file}")
    for line in problems:
        problem(line)


def problem(line: str) -> None:
    typer.echo(f"monitor: {line}", err=True)


@app.command()
def trend(
    config_file: ConfigFile,
    name: Annotated[str, typer.Argument(help="of the check")],
    days: Annotated[int, typer.Option(min=1)] = 30,
    to: Annotated[Path, typer.Option(help="a PNG")] = Path("trend.png"),
) -> None:
    """Draw what one check has measured."""
    try:
        config = load(config_file)
        url = secret(config.history.url_env or config.database.url_env)
        engine = open_engine(url.get_secret_value())
        start = datetime.now(UTC) - timedelta(days=days)
        past = history.since(engine, config.name, start)
        engine.dispose()
    except (ConfigError, SQLAlchemyError) as error:
        problem(runner.describe(error))
        raise typer.Exit(NOT_CHECKED) from None
    of_it = [one for one in past if one.name == name]
    if not of_it:
        problem(f"no result of {name!r} in the last {days} days")
        raise typer.Exit(NOT_CHECKED)
    to.write_bytes(image(trend_chart(of_it), "png"))
    typer.echo(f"{len(of_it)} results in {to}")


@app.command("demo")
def demo_() -> None:
    """Fill tables with planted defects in DATABASE_URL, and check them for 14 days."""
    url = os.environ.get("DATABASE_URL") or sys.exit(demo.NO_SERVER)
    config = load(Path(__file__).with_name("monitor.toml"))
    engine = open_engine(url)
    for now in demo.days(engine):
        if now < demo.LAST_DAY:
            history.save(engine, runner.run(engine, config, now), keep_days=90)
    engine.dispose()
    run, problems = perform(config, now, mail=False)
    show(run, config, problems)
    typer.echo(f"exit code of `check`: {run.exit_code}")
