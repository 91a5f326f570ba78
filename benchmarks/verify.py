"""`cookbook verify`, tests and starts of the engines included; then with no change.

Timed are whole processes, from start to end, in a copy of the checkout. Every test has
to pass, or the second would try its recipe again.
"""

from benchmarks.common import Progress, Way, chart, interleaved
from benchmarks.harness import copy_of_checkout, of_the_copy, seconds
from cookbook import catalog
from cookbook.pages.chart import Chart


def run(quick: bool, progress: Progress) -> Chart:
    """Measure with every recipe, or with one."""
    pattern, runs = ("sqlite/connect", 1) if quick else ("*", 3)
    command = ["-m", "cookbook.cli", "verify", pattern]
    with copy_of_checkout() as checkout:
        env = of_the_copy(checkout)

        def unchanged() -> float:
            took, said = seconds([*command, "--changed"], checkout, env)
            if "passed" in said:
                raise RuntimeError(f"something had changed:\n{said}")
            return took

        ways = [
            Way(
                "cookbook verify", "recipe", lambda: seconds(command, checkout, env)[0]
            ),
            Way("cookbook verify --changed, nothing changed", "recipe", unchanged),
        ]
        groups = {"all": interleaved(ways, runs, progress)}
    title = f"Seconds to verify {len(catalog.find(pattern))} recipes."
    return chart(title, "s", "lower", runs, {}, groups)
