"""Charts of the history, without pyplot: nothing is left open, and threads may draw."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .history import Past
from .status import Status


@dataclass(frozen=True)
class Theme:
    text: str
    grid: str
    colors: dict[Status, str]


def _theme(text: str, grid: str, *colors: str) -> Theme:
    return Theme(text, grid, dict(zip(Status, colors, strict=True)))


LIGHT = _theme("#57606a", "#d8dee4", "#2da44e", "#d4a72c", "#cf222e", "#8250df")
DARK = _theme("#9198a1", "#30363d", "#3fb950", "#d29922", "#f85149", "#a371f7")

_TICKS = 6
_TWO_DAYS = timedelta(days=2)


# --8<-- [start:charts]
def runs_chart(past: Sequence[Past], theme: Theme = LIGHT) -> Figure:
    """How many checks ended in which way: a bar for each run, the newest last."""
    figure, axes = _empty(theme, height=1.8)
    moments = list(dict.fromkeys(one.checked_at for one in past))
    counts = Counter((one.checked_at, one.status) for one in past)
    bottom = [0] * len(moments)
    for status in Status:
        heights = [counts[moment, status] for moment in moments]
        axes.bar(
            range(len(moments)),
            heights,
            bottom=bottom,
            width=0.7,
            color=theme.colors[status],
            label=status.value,
        )
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    shown = range(0, len(moments), max(1, len(moments) // _TICKS))
    axes.set_xticks(shown, [f"{moments[n]:%d %b}" for n in shown])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    return figure


def trend_chart(past: Sequence[Past], theme: Theme = LIGHT) -> Figure:
    """What one check measured, over time: a gap where it could not run."""
    figure, axes = _empty(theme, height=1.4)
    times: list[datetime] = [one.checked_at for one in past]
    measured = [float("nan") if one.measure is None else one.measure for one in past]
    axes.plot(times, measured, color=theme.text, linewidth=1.2, zorder=1)  # type: ignore[arg-type]
    colors = [theme.colors[one.status] for one in past]
    axes.scatter(times, measured, c=colors, s=22, zorder=2)  # type: ignore[arg-type]
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    form = "%d %b" if times and times[-1] - times[0] > _TWO_DAYS else "%d %b %H:%M"
    shown = times[:: max(1, len(times) // _TICKS)]
    axes.set_xticks(shown, [f"{it:{form}}" for it in shown])  # type: ignore[arg-type]
    return figure


def image(figure: Figure, kind: str) -> bytes:
    """ "svg" for a page, "png" for an e-mail, whose readers mostly show no SVG."""
    content = io.BytesIO()
    clear = kind == "svg"
    figure.savefig(content, format=kind, dpi=160, transparent=clear)
    return content.getvalue()


# --8<-- [end:charts]


def _empty(theme: Theme, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, height), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(colors=theme.text, labelsize=8, length=0)
    axes.grid(axis="y", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes
