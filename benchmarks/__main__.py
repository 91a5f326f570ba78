"""`python -m benchmarks [NAME...]`: measure, and write results/NAME.json."""

import importlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cookbook.catalog import did_you_mean
from cookbook.errors import UnavailableError
from cookbook.pages.chart import Chart
from cookbook.paths import BUILD
from cookbook.servers import kept

NAMES = (
    "harness",
    "verify",
    "bulk_load",
    "copy_table",
    "copy_between_engines",
    "stream",
    "outage",
    "containers",
)
RESULTS = Path(__file__).parent / "results"

out = Console()
err = Console(stderr=True)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(NAMES))] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="small: to try it, not to publish it")
    ] = False,
    results: Annotated[Path | None, typer.Option(help="the folder to write to")] = None,
) -> None:
    """Measure, one after the other, and write what the pages draw."""
    for name in names or NAMES:
        if name not in NAMES:
            known = f"{did_you_mean(name, NAMES)} (known: {', '.join(NAMES)})"
            raise typer.BadParameter(f"there is no benchmark {name!r}{known}")
    if up := kept():
        raise typer.BadParameter(f"{', '.join(up)} would be shared: `cookbook down`")
    folder = results or (BUILD / "benchmarks" if quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        try:
            with err.status(name) as status:
                chart: Chart = module.run(
                    quick, lambda what, name=name: status.update(f"{name}: {what}")
                )
        except UnavailableError as error:
            err.print(f"[yellow]{name}:[/] left out, {error}", highlight=False)
            continue
        file = folder / f"{name}.json"
        file.write_text(chart.model_dump_json(indent=1) + "\n", "utf-8")
        show(chart)


def show(chart: Chart) -> None:
    """Print the bars, each beside the best tool of its group."""
    for group, bars in chart.groups.items():
        tools = [bar.value for bar in bars if bar.kind == "tool"]
        table = Table(group, chart.unit, "lowest", "highest", "to the tool", box=None)
        for bar in bars:
            table.add_row(
                bar.label,
                *(f"{figure:,.5g}" for figure in (bar.value, bar.low, bar.high)),
                f"{bar.value / max(tools):.2f}" if tools else "",
            )
        out.print(table)


if __name__ == "__main__":
    typer.run(main)
