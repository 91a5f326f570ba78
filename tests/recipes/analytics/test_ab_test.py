"""ab_test: right at the edges, and against published numbers."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import psycopg
import pytest
from scipy.stats import binom, chi2_contingency, chisquare, fisher_exact
from statsmodels.stats.proportion import confint_proportions_2indep

from recipes.analytics.ab_test import Arm, Estimate, compare, intervals
from recipes.analytics.ab_test_count import SCHEMA, count_arms

# Statistics.

# Newcombe, Statistics in Medicine 17 (1998), 873-890: table II, method 10, the examples
# (a) to (h) with the limits that the paper gives.
NEWCOMBE = [
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((0, 10), (0, 10), -0.2775, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0),
    ((10, 10), (0, 10), 0.6075, 1.0),
]


def arm(converted: int, users: int) -> Arm:
    return Arm(users, converted)


@pytest.mark.parametrize(("variant", "control", "low", "high"), NEWCOMBE)
def test_difference_as_published(variant, control, low, high):
    """The interval of the difference is that of Newcombe's paper of 1998, to four
    digits, also where an arm has no conversions or nothing else."""
    found, _ = intervals(arm(*control), arm(*variant), 0.95)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_lift_as_published():
    """For a clinical trial (7 of 34 to 1 of 34) the intervals are those that the R
    package contingencytables tests for: a difference of 0.0189 to 0.3404, and a ratio
    of 1.1537 to 41.9763."""
    # Its tests of chapter 4, data set perondi_2004: Newcombe, and MOVER-R Wilson.
    difference, lift = intervals(arm(1, 34), arm(7, 34), 0.95)
    rounded = [round(it, 4) for it in (difference.low, difference.high)]
    assert rounded == [0.0189, 0.3404]
    ratio = [lift.value + 1, lift.low + 1, lift.high + 1]
    assert [round(it, 4) for it in ratio] == [7, 1.1537, 41.9763]


SIZES = [(8, 5), (40, 40), (1000, 1100)]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("users", SIZES)
def test_difference_as_in_statsmodels(users, confidence):
    """The interval of the difference is that of statsmodels."""
    for shares in product((0, 0.05, 0.3, 1), repeat=2):
        c, v = (round(share * n) for share, n in zip(shares, users, strict=True))
        found, _ = intervals(arm(c, users[0]), arm(v, users[1]), confidence)
        expected = confint_proportions_2indep(
            *(v, users[1], c, users[0]), method="newcomb", alpha=1 - confidence
        )
        assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("control", "variant"),
    [((100, 1000), (143, 1000)), ((3000, 90_000), (3100, 90_100))],
)
def test_lift_near_another_method(control, variant):
    """With many users the interval of the lift is, to a hundredth of its width, the
    score interval that statsmodels computes in another way."""
    _, lift = intervals(arm(*control), arm(*variant), 0.95)
    expected = confint_proportions_2indep(
        *variant, *control, compare="ratio", method="score"
    )
    width = expected[1] - expected[0]
    assert (lift.low + 1, lift.high + 1) == pytest.approx(expected, abs=width / 100)


@pytest.mark.parametrize(
    ("users", "rates"),
    [((20, 20), (0.1, 0.3)), ((60, 40), (0.05, 0.05)), ((200, 200), (0.02, 0.04))],
)
def test_intervals_hold_the_truth(users, rates):
    """Of all experiments that chance can make, weighed by how often it does, the
    intervals of 95 % hold the true difference in 93.5 % or more, and the true lift
    too: with 20 users, and with rates of a few percent."""
    weights = [binom.pmf(range(n + 1), n, r) for n, r in zip(users, rates, strict=True)]
    c_true, v_true = rates
    in_difference = in_lift = 0.0
    for c, v in product(range(users[0] + 1), range(users[1] + 1)):
        weight = weights[0][c] * weights[1][v]
        if weight < 1e-9:
            continue
        difference, lift = intervals(arm(c, users[0]), arm(v, users[1]), 0.95)
        in_difference += weight * (difference.low <= v_true - c_true <= difference.high)
        high = np.inf if lift.high is None else lift.high
        in_lift += weight * (lift.low <= v_true / c_true - 1 <= high)
    assert min(in_difference, in_lift) > 0.935


@pytest.mark.parametrize(("users", "rate"), [(10, 0.5), (25, 0.1), (30, 0.3)])
def test_false_alarms(users, rate):
    """Where the arms do not differ, at most 5 % of all experiments say that they do."""
    weight = binom.pmf(range(users + 1), users, rate)
    alarms = sum(
        weight[c] * weight[v]
        for c, v in product(range(users + 1), repeat=2)
        if compare(arm(c, users), arm(v, users)).verdict != "not shown"
    )
    assert 0 < alarms <= 0.05


def test_every_small_experiment():
    """Of every experiment with up to seven users an arm: the numbers exist, the value
    lies within its interval, and the interval within what is possible."""
    for c_users, v_users in product(range(1, 8), repeat=2):
        for c, v in product(range(c_users + 1), range(v_users + 1)):
            difference, lift = intervals(arm(c, c_users), arm(v, v_users), 0.95)
            assert -1 <= difference.low <= difference.value <= difference.high <= 1
            assert lift.low >= -1
            if c:
                assert lift.low <= lift.value <= lift.high
                assert lift.value == pytest.approx((v / v_users) / (c / c_users) - 1)
            else:
                assert lift == Estimate(None, lift.low, None)


def test_lift_and_control_without_conversions():
    """When nobody in control converted, the lift has no value and no upper bound: None,
    and not infinity. Its lower bound is still known."""
    result = compare(arm(0, 1000), arm(12, 1000))
    assert result.verdict == "better"
    assert (result.lift.value, result.lift.high) == (None, None)
    assert result.lift.low == pytest.approx(1.8358, abs=1e-4)
    assert result.difference.low > 0


def test_nobody_converted():
    """When nobody converted at all, nothing is shown: p is 1, the difference is 0, and
    the lift may be anything."""
    result = compare(arm(0, 50), arm(0, 50))
    assert (result.verdict, result.p) == ("not shown", 1)
    assert result.difference.value == 0
    assert result.difference.low == -result.difference.high
    assert result.lift == Estimate(None, -1, None)


def test_variant_without_conversions():
    """When nobody in variant converted, the lift is -100 %, and its upper bound says
    how much that is worth."""
    result = compare(arm(20, 200), arm(0, 200))
    assert result.verdict == "worse"
    assert (result.lift.value, result.lift.low) == (-1, -1)
    assert -1 < result.lift.high < -0.7


def test_few_users():
    """Three of four to one of four, Fisher's own example of a lady who tastes tea,
    shows nothing: p is 0.486."""
    result = compare(arm(1, 4), arm(3, 4))
    assert result.verdict == "not shown"
    assert result.p == pytest.approx(0.4857, abs=1e-4)


def test_many_users():
    """Rare events of many users: 33 of 200745 to 115 of 201229 are fewer, by 57 % to
    81 %."""
    result = compare(arm(115, 201229), arm(33, 200745))
    assert result.verdict == "worse"
    assert result.lift.value == pytest.approx(-0.712, abs=1e-3)
    assert -0.81 < result.lift.low < result.lift.high < -0.57


def test_p_and_the_interval_near_the_border():
    """The verdict follows p: 100 to 128 of 1000 is not shown, with a p of 0.057, though
    the interval of the lift just leaves out zero."""
    result = compare(arm(100, 1000), arm(128, 1000))
    assert result.verdict == "not shown"
    assert result.p == pytest.approx(0.0573, abs=1e-4)
    assert 0 < result.lift.low < 0.001


@pytest.mark.parametrize("converted", [(100, 143), (143, 100), (100, 128), (9, 9)])
def test_p_is_fisher_s(converted):
    """The p-value is that of Fisher's exact test, and the verdict follows it."""
    c, v = converted
    result = compare(arm(c, 1000), arm(v, 1000))
    expected = fisher_exact([[v, 1000 - v], [c, 1000 - c]]).pvalue
    assert result.p == pytest.approx(expected)
    shown = "better" if v > c else "worse"
    assert result.verdict == (shown if expected < 0.05 else "not shown")


@pytest.mark.parametrize("users", [(0, 0), (5, 0), (0, 5), (10, 0)])
def test_empty_arm(users):
    """An empty arm is told, without a p-value, a difference or a lift, and without an
    error."""
    result = compare(*(arm(0, n) for n in users))
    assert result.verdict == "empty arm"
    assert (result.p, result.difference, result.lift) == (None, None, None)


def test_wrong_split():
    """50000 users to 51200 is no accident: where a half was meant for each arm, no
    lift is told."""
    counts = 50_000, 51_200
    result = compare(*(arm(5000, n) for n in counts))
    assert result.verdict == "wrong split"
    assert result.split_p == pytest.approx(chisquare(counts).pvalue, rel=0.05)
    assert (result.p, result.difference, result.lift) == (None, None, None)


def test_split_that_chance_can_make():
    """500 users to 560 is within what chance does; and one to nine is right where the
    variant was to get a tenth."""
    assert compare(arm(50, 500), arm(60, 560)).verdict == "not shown"
    nine_to_one = arm(90, 900), arm(10, 100)
    assert compare(*nine_to_one).verdict == "wrong split"
    assert compare(*nine_to_one, share=0.1).verdict == "not shown"


def test_confidence():
    """What is shown with a confidence of 95 % need not be with one of 99 %."""
    arms = arm(100, 1000), arm(130, 1000)
    assert compare(*arms).verdict == "better"
    assert compare(*arms, confidence=0.99).verdict == "not shown"
    assert compare(*arms, confidence=0.99).lift.low < compare(*arms).lift.low


def test_json():
    """A result is plain Python all through, so `json.dumps` takes it."""
    result = compare(arm(0, 9), arm(3, 9))
    assert json.loads(json.dumps(asdict(result), allow_nan=False)) == asdict(result)
    assert "np." not in repr(result)


@pytest.mark.parametrize("counts", [(10, 11), (10, -1), (-1, -1)])
def test_impossible_counts(counts):
    """More conversions than users, or fewer than none, are refused."""
    with pytest.raises(ValueError, match="users converted"):
        Arm(*counts)


# Counting.

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
LATER = START + 2 * WEEK


@pytest.fixture
def shop(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection to the tables: users 1 to 6, of whom the even are the control."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        for user in range(1, 7):
            assign(conn, user, "variant" if user % 2 else "control")
        yield conn


def assign(conn, user: int, arm: str, at: datetime = START) -> None:
    query = "INSERT INTO assignment VALUES ('button', %s, %s, %s)"
    conn.execute(query, (user, arm, at))


def buy(conn, user: int, *moments: datetime) -> None:
    for at in moments:
        conn.execute("INSERT INTO purchase (user_id, at) VALUES (%s, %s)", (user, at))


def counted(conn) -> dict[str, tuple[int, int]]:
    return count_arms(conn, "button", WEEK, LATER)


def test_counts_users(shop):
    """A user with three purchases is one user, and converted once."""
    buy(shop, 1, START, START + WEEK / 2, START + WEEK / 3)
    assert counted(shop) == {"control": (3, 0), "variant": (3, 1)}


def test_counts_within_the_window(shop):
    """A purchase counts from the moment of the assignment until the window ends: not
    one before, and not one at its very end."""
    a_moment = timedelta(microseconds=1)
    buy(shop, 1, START)
    buy(shop, 2, START + WEEK - a_moment)
    buy(shop, 3, START - a_moment)
    buy(shop, 4, START + WEEK)
    assert counted(shop) == {"control": (3, 1), "variant": (3, 1)}


def test_counts_who_had_the_whole_window(shop):
    """Users whose window has not passed are left out, so that all had the same time."""
    a_moment = timedelta(microseconds=1)
    assign(shop, 7, "variant", LATER - WEEK)
    assign(shop, 9, "variant", LATER - WEEK + a_moment)
    assert counted(shop)["variant"] == (4, 0)


def test_counts_an_arm_without_users(shop):
    """An arm without users is there, with zeros; other experiments are not counted."""
    shop.execute("DELETE FROM assignment WHERE arm = 'variant'")
    shop.execute("INSERT INTO assignment VALUES ('other', 1, 'variant', %s)", (START,))
    assert counted(shop) == {"control": (3, 0), "variant": (0, 0)}


def test_counts_no_other_arms(shop):
    """An arm that nobody knows, such as a misspelt one, is refused."""
    assign(shop, 7, "Variant")
    with pytest.raises(ValueError, match="1 users in the arm 'Variant'"):
        counted(shop)


def test_one_arm_for_a_user(shop):
    """The database refuses to assign a user to a second arm."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        assign(shop, 1, "control")


def test_counts_refuses(shop):
    """A time without a zone is refused, and a window of no length."""
    with pytest.raises(ValueError, match="aware"):
        count_arms(shop, "button", WEEK, datetime(2026, 3, 15))
    with pytest.raises(ValueError, match="window"):
        count_arms(shop, "button", timedelta(), LATER)


# --8<-- [start:wrong]
def analyze_as_copied(conn):
    rows = conn.execute("""
        SELECT a.arm, COUNT(*), COUNT(p.id)
        FROM assignment a LEFT JOIN purchase p ON p.user_id = a.user_id
        GROUP BY a.arm
    """).fetchall()
    users = {arm: total for arm, total, _ in rows}
    converted = {arm: bought for arm, _, bought in rows}
    rates = {arm: np.float64(converted[arm]) / users[arm] for arm in users}
    table = [
        [converted["control"], users["control"] - converted["control"]],
        [converted["variant"], users["variant"] - converted["variant"]],
    ]
    _, p_value, *_ = chi2_contingency(table)
    return {
        "lift": (rates["variant"] - rates["control"]) / rates["control"],
        "significant": p_value < 0.05,
    }


# --8<-- [end:wrong]


def test_often_copied_counts_purchases(shop):
    """Often copied: the join makes a row of each purchase, so one loyal user is a
    significant lift."""
    for user in range(7, 27):
        assign(shop, user, "variant" if user % 2 else "control")
    buy(shop, 1, *(START + timedelta(hours=hour) for hour in range(20)))
    buy(shop, 2, START)
    assert analyze_as_copied(shop)["significant"]
    arms = {name: Arm(*counts) for name, counts in counted(shop).items()}
    assert compare(**arms).verdict == "not shown"


def test_often_copied_counts_the_past(shop):
    """Often copied: purchases from before the experiment count as its success."""
    for user in (1, 3, 5, 2):
        buy(shop, user, START - WEEK)
    assert analyze_as_copied(shop)["lift"] == pytest.approx(2)
    assert counted(shop) == {"control": (3, 0), "variant": (3, 0)}


def test_often_copied_fails_without_conversions(shop):
    """Often copied: when nobody converted, `chi2_contingency` raises ValueError."""
    with pytest.raises(ValueError, match="expected frequencies has a zero element"):
        analyze_as_copied(shop)


def test_often_copied_fails_with_an_empty_arm(shop):
    """Often copied: an arm without users is not in the result, and a KeyError."""
    shop.execute("DELETE FROM assignment WHERE arm = 'variant'")
    with pytest.raises(KeyError, match="variant"):
        analyze_as_copied(shop)


def test_often_copied_divides_by_zero(shop):
    """Often copied: when nobody in control converted, the lift is infinite."""
    buy(shop, 1, START)
    with np.errstate(divide="ignore"):
        assert analyze_as_copied(shop)["lift"] == np.inf


def test_often_copied_cannot_be_stored(shop):
    """Often copied: `significant` is NumPy's bool, which `json.dumps` refuses."""
    buy(shop, 1, START)
    buy(shop, 2, START)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(analyze_as_copied(shop))


def test_often_copied_believes_a_wrong_split(shop):
    """Often copied: an arm that lost half of its users is analysed as if it were
    whole."""
    for user in range(100, 300):
        assign(shop, user, "control" if user < 230 else "variant")
        if user % 3 == 0:
            buy(shop, user, START)
    assert set(analyze_as_copied(shop)) == {"lift", "significant"}
    arms = {name: Arm(*counts) for name, counts in counted(shop).items()}
    assert compare(**arms).verdict == "wrong split"


def test_notebook(run_notebook):
    """The notebook runs to its last cell, and each of its charts has a description."""
    charts = run_notebook("analytics/ab_test")
    assert len(charts) == 2
    assert all('<svg role="img" aria-label="' in chart for chart in charts)
