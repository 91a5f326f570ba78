"""Bars, drawn from a file that `make bench` wrote."""

import html
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from cookbook.catalog import did_you_mean
from cookbook.engines import ENGINES
from cookbook.pages.data import Data, DirectiveError
from cookbook.pages.words import number

NOT_MEASURED = "Not measured in this build.\n{ .vf-note }\n"


class Bar(BaseModel, extra="forbid"):
    """One way to do it. The kind `wrong` is the version that is often copied."""

    label: str
    value: float = Field(gt=0)  # the median
    low: float
    high: float
    kind: Literal["recipe", "tool", "wrong"] = "recipe"


class Chart(BaseModel, extra="forbid"):
    """A file in benchmarks/results."""

    title: str
    unit: str
    better: Literal["higher", "lower"]
    machine: str
    measured: datetime  # UTC
    runs: int
    versions: dict[str, str]
    groups: dict[str, list[Bar]]


def chart(data: Data, name: str, group: str) -> str:
    """A bar for each way: the best first, each with its distance from the best."""
    file = data.results / f"{name}.json"
    if not file.is_file():
        return NOT_MEASURED
    try:
        chart = Chart.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DirectiveError(f"{file.name} is not a chart: {error}") from error
    if group not in chart.groups and group in ENGINES:  # it was not there
        return NOT_MEASURED
    if not chart.groups.get(group):
        known = (
            f"{did_you_mean(group, chart.groups)} (known: {', '.join(chart.groups)})"
        )
        raise DirectiveError(f"{file.name} has no group {group!r}{known}")
    return _draw(chart, chart.groups[group])


def _draw(chart: Chart, bars: list[Bar]) -> str:
    lower = chart.better == "lower"
    bars = sorted(bars, key=lambda bar: bar.value, reverse=not lower)
    best = bars[0].value
    longest = max(bar.value for bar in bars)
    rows = []
    for bar in bars:
        ratio = bar.value / best if lower else best / bar.value
        wrong = " <small>often copied</small>" if bar.kind == "wrong" else ""
        rows.append(
            f'<tr class="vf-{bar.kind}">'
            f'<th scope="row">{html.escape(bar.label)}{wrong}</th>'
            f'<td><i style="width:{100 * bar.value / longest:.2f}%"></i></td>'
            f"<td>{_figure(bar.value)} {html.escape(chart.unit)}"
            f"<small>{_figure(bar.low)} to {_figure(bar.high)}</small></td>"
            f"<td>{_times(ratio)}</td></tr>"
        )
    versions = ", ".join(
        f"{name} {version}" for name, version in chart.versions.items()
    )
    caption = (
        f"<b>{html.escape(chart.title)}</b>"
        f" {'Shorter' if lower else 'Longer'} is better; × counts from the best."
        f" Median of {number(chart.runs, 'run')}, with the lowest and the highest,"
        f" on {chart.measured:%Y-%m-%d}: {html.escape(chart.machine)}"
        + (f"; {html.escape(versions)}." if versions else ".")
    )
    return (
        f'<table class="vf-bars"><caption>{caption}</caption>'
        f"<tbody>{''.join(rows)}</tbody></table>\n"
    )


def _figure(value: float) -> str:
    """Three significant digits, and never fewer than stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"
