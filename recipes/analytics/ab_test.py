# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.3", "psycopg[binary]>=3.2", "scipy>=1.16"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Compare the two arms of an experiment.

How much better is the variant, and between which bounds? The answer is honest at the
edges too: no conversions, an empty arm, few users, a split that went wrong.
"""

import os
import sys
from dataclasses import dataclass
from math import sqrt

import numpy as np
import psycopg
from scipy.stats import binomtest, fisher_exact


# --8<-- [start:compare]
@dataclass(frozen=True)
class Arm:
    """The users of an arm, and how many of them did what was hoped for."""

    users: int
    converted: int

    def __post_init__(self) -> None:
        if not 0 <= self.converted <= self.users:
            raise ValueError(f"{self.converted} of {self.users} users converted")


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval. None: the data give no number."""

    value: float | None
    low: float
    high: float | None


@dataclass(frozen=True)
class Result:
    """The verdict: better, worse, not shown, wrong split, or empty arm."""

    verdict: str
    split_p: float  # how often chance alone makes a split as uneven
    p: float | None = None  # the same for the difference
    difference: Estimate | None = None  # of the rates
    lift: Estimate | None = None  # 0.1 is a tenth more than control


def compare(
    control: Arm, variant: Arm, share: float = 0.5, confidence: float = 0.95
) -> Result:
    """Compare variant, which should have that share of the users, with control.

    Of a wrong split or an empty arm nothing else is told: it would mean nothing.
    """
    users = control.users + variant.users
    split_p = float(binomtest(variant.users, users, share).pvalue) if users else 1.0
    if split_p < 0.001:
        return Result("wrong split", split_p)
    if not control.users or not variant.users:
        return Result("empty arm", split_p)
    table = [[arm.converted, arm.users - arm.converted] for arm in (control, variant)]
    p = float(fisher_exact(np.array(table)).pvalue)
    difference, lift = intervals(control, variant, confidence)
    more = variant.converted * control.users > control.converted * variant.users
    verdict = "not shown" if p >= 1 - confidence else "better" if more else "worse"
    return Result(verdict, split_p, p, difference, lift)


# --8<-- [end:compare]


# --8<-- [start:intervals]
def intervals(
    control: Arm, variant: Arm, confidence: float
) -> tuple[Estimate, Estimate]:
    """The difference (Newcombe 1998) and the lift (Donner and Zou 2012, MOVER-R).

    Both are made of the arms' Wilson intervals, which hold with few users and with
    none converted.
    """
    c, v = control.converted / control.users, variant.converted / variant.users
    c_low, c_high = _wilson(control, confidence)
    v_low, v_high = _wilson(variant, confidence)
    difference = Estimate(
        v - c,
        v - c - sqrt((v - v_low) ** 2 + (c_high - c) ** 2),
        v - c + sqrt((v_high - v) ** 2 + (c - c_low) ** 2),
    )
    low, high = v_low * (2 * v - v_low), v_high * (2 * v - v_high)
    by_low, by_high = c_low * (2 * c - c_low), c_high * (2 * c - c_high)
    least = low / (v * c + sqrt((v * c) ** 2 - low * by_high)) if v else 0.0
    if not c:  # any lift, however large, may be true
        return difference, Estimate(None, least - 1, None)
    most = (v * c + sqrt((v * c) ** 2 - high * by_low)) / by_low
    return difference, Estimate(v / c - 1, least - 1, most - 1)


def _wilson(arm: Arm, confidence: float) -> tuple[float, float]:
    share = binomtest(arm.converted, arm.users)
    interval = share.proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


# --8<-- [end:intervals]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

COUNT = """
SELECT CASE id % 2 WHEN 0 THEN 'control' ELSE 'variant' END AS arm, count(*),
       count(*) FILTER (WHERE id % 20 = 0 OR id % 14 = 1)
FROM generate_series(1, 2000) AS id
GROUP BY arm
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    options = "-c statement_timeout=60s"
    with psycopg.connect(url, connect_timeout=5, options=options) as conn:
        arms = {arm: Arm(*counts) for arm, *counts in conn.execute(COUNT)}
    result = compare(arms["control"], arms["variant"])
    print(f"{arms['variant']} to {arms['control']}: {result.verdict}")
    if lift := result.lift:
        print(f"lift {lift.value:+.0%}, from {lift.low:+.0%} to {lift.high:+.0%}")


if __name__ == "__main__":
    main()
