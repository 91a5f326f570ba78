"""The report: one HTML file that needs nothing else, to open, to mail, or to serve."""

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from .charts import DARK, LIGHT, Theme, image, runs_chart, trend_chart
from .history import Past
from .status import Run, Status

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_RUNS = 30
_TRENDS = 8


@dataclass(frozen=True)
class Chart:
    """Two drawings as data URIs: the reader's system says which one is shown."""

    light: str
    dark: str


@dataclass(frozen=True)
class Trend:
    says: str
    chart: Chart


# --8<-- [start:render]
def render(run: Run, past: Sequence[Past]) -> str:
    """The page. What came from the database is escaped."""
    moments = sorted({one.checked_at for one in past})[-_RUNS:]
    recent = [one for one in past if moments and one.checked_at >= moments[0]]
    bad = [it.name for it in run.worst_first if it.status is not Status.PASS]
    trends = {name: trend(recent, name) for name in bad[:_TRENDS]}
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        run=run,
        runs=len(moments),
        history=_chart(partial(runs_chart, recent)),
        trends={name: it for name, it in trends.items() if it},
    )


def write(path: Path, page: str) -> None:
    """All at once: nobody reads half a page, and a full disk leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(page, "utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


# --8<-- [end:render]


def trend(past: Sequence[Past], name: str) -> Trend | None:
    """What one check measured; None before there are two results to compare."""
    of_it = [one for one in past if one.name == name]
    measured = [one for one in of_it if one.measure is not None]
    if len(measured) < 2:
        return None
    unit = {"freshness": " hours", "sql": ""}.get(of_it[0].kind, "% of the rows")
    first, last = (f"{it.measure:,.1f}{unit}" for it in (measured[0], measured[-1]))
    says = f"{first} on {measured[0].checked_at:%d %b}, {last} on"
    says += f" {measured[-1].checked_at:%d %b}"
    return Trend(says, _chart(partial(trend_chart, of_it)))


def _chart(draw: Callable[[Theme], Figure]) -> Chart:
    return Chart(_uri(draw(LIGHT)), _uri(draw(DARK)))


def _uri(figure: Figure) -> str:
    encoded = base64.b64encode(image(figure, "svg")).decode()
    return f"data:image/svg+xml;base64,{encoded}"
