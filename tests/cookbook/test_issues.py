"""One issue for each recipe that breaks at night."""

import json
import sys
from datetime import UTC, datetime

import pytest

from cookbook import ledger
from cookbook.issues import Action, Issue, plan
from cookbook.ledger import EngineUsed, Ledger, Record, TestResult


def record(recipe="redis/pipeline", status="failed", reason="test_x: boom") -> Record:
    outcome = "failed" if status == "failed" else "passed"
    return Record(
        recipe=recipe,
        status=status,
        reason=reason if status == "failed" else "",
        engines=(EngineUsed(engine="redis", name="Redis", version="9.1"),),
        drivers={"redis": "9.0"},
        python="3.11.7",
        started=datetime(2026, 11, 21, tzinfo=UTC),
        seconds=1,
        tests=(TestResult(id="tests/x.py::test_x", says="It works.", outcome=outcome),),
        fingerprint="",
    )


def legs(*records: Record) -> dict[str, Ledger]:
    return {"newest-redis": Ledger(records=records)}


def opened(*records: Record, run="run 1") -> Action:
    (action,) = plan(legs(*records), [], run)
    return action


def test_a_failure_opens_an_issue_with_test_and_versions():
    action = opened(record())
    assert (action.kind, action.recipe, action.number) == (
        "open",
        "redis/pipeline",
        None,
    )
    for said in (
        "<!-- nightly: redis/pipeline -->",
        "newest-redis",
        "Redis 9.1",
        "redis 9.0",
        "Python 3.11.7",
        "test_x: boom",
        "tests/x.py::test_x",
        "run 1",
    ):
        assert said in action.body


def test_the_same_failure_says_nothing_twice():
    before = Issue(7, "OPEN", opened(record()).body.replace("\n", "\r\n"))
    assert plan(legs(record()), [before], "run 2") == []


def test_another_failure_updates_the_issue():
    before = Issue(7, "OPEN", opened(record()).body)
    (action,) = plan(legs(record(reason="test_y: bang")), [before], "run 2")
    assert (action.kind, action.number) == ("update", 7)
    assert "test_y: bang" in action.body


def test_several_legs_share_one_issue():
    failing = {"newest-redis": record(), "oldest-redis": record(reason="test_z: ouch")}
    both = {leg: Ledger(records=(one,)) for leg, one in failing.items()}
    (action,) = plan(both, [], "run 1")
    assert "newest-redis" in action.body
    assert "test_z: ouch" in action.body


def test_green_again_closes_the_issue():
    before = Issue(7, "OPEN", opened(record()).body)
    (action,) = plan(legs(record(status="verified")), [before], "run 2")
    assert (action.kind, action.number) == ("close", 7)
    assert "Redis 9.1" in action.body
    assert "run 2" in action.body


def test_red_in_one_leg_is_not_green():
    before = Issue(7, "OPEN", opened(record()).body)
    both = {"newest-redis": Ledger(records=(record(),))}
    both["plain-redis"] = Ledger(records=(record(status="verified"),))
    assert plan(both, [before], "run 2") == []


def test_broken_again_reopens_the_same_issue():
    before = Issue(7, "CLOSED", opened(record()).body)
    (action,) = plan(legs(record()), [before], "run 3")
    assert (action.kind, action.number) == ("reopen", 7)


@pytest.mark.parametrize("records", [(), (record(status="unavailable"),)])
def test_what_did_not_run_is_left_as_it_is(records):
    before = Issue(7, "OPEN", opened(record()).body)
    assert plan(legs(*records), [before], "run 2") == []


def test_closed_and_green_is_left_alone():
    before = Issue(7, "CLOSED", opened(record()).body)
    assert plan(legs(record(status="verified")), [before], "run 2") == []


def test_issues_of_people_are_not_touched():
    theirs = Issue(7, "OPEN", "redis/pipeline fails for me too")
    assert [action.kind for action in plan(legs(record()), [theirs], "run")] == ["open"]


def test_an_open_issue_goes_before_a_closed_one():
    body = opened(record()).body
    two = [Issue(3, "OPEN", body), Issue(9, "CLOSED", body)]
    (action,) = plan(legs(record(reason="other")), two, "run 2")
    assert (action.kind, action.number) == ("update", 3)


def test_backticks_in_a_reason_do_not_end_the_code():
    assert (
        "- First failure: `'x' is wrong`" in opened(record(reason="`x` is wrong")).body
    )


FAKE_GH = """\
#!{python}
import json, pathlib, sys
store = pathlib.Path(__file__).with_name("issues.json")
issues = json.loads(store.read_text()) if store.exists() else []
area, verb, *rest = sys.argv[1:]
def option(name):
    return rest[rest.index(name) + 1]
if (area, verb) == ("issue", "list"):
    assert option("--label") == "nightly" and option("--state") == "all"
    keys = option("--json").split(",")
    print(json.dumps([{{k: one[k] for k in keys}} for one in issues]))
elif (area, verb) == ("issue", "create"):
    number = len(issues) + 1
    new = dict(number=number, state="OPEN", title=option("--title"))
    issues.append(dict(new, body=sys.stdin.read(), comments=[]))
elif area == "issue":
    one = issues[int(rest[0]) - 1]
    if verb == "edit":
        one["body"] = sys.stdin.read()
    else:
        one["state"] = {{"close": "CLOSED", "reopen": "OPEN"}}[verb]
        one["comments"] += [option("--comment")] if verb == "close" else []
store.write_text(json.dumps(issues))
"""


def test_the_life_of_an_issue(checkout):
    checkout.write("bin/gh", FAKE_GH.format(python=sys.executable))
    (checkout.root / "bin/gh").chmod(0o755)

    def night(*records: Record, dry: bool = False) -> str:
        path = checkout.root / "legs/newest-redis.json"
        ledger.write(Ledger(records=records), path)
        command = ["cookbook", "issues", "--run", "the run", str(path)]
        command += ["--dry-run"] if dry else []
        done = checkout.run(*command, PATH=f"{checkout.root}/bin:/usr/bin:/bin")
        assert done.returncode == 0, done.stderr
        return done.stdout

    good, bad = record(status="verified"), record()
    assert night(bad, dry=True) == "open: redis/pipeline\n"
    assert night(bad) == "open: redis/pipeline\n"
    assert night(bad) == ""
    assert night(record(reason="other")) == "update #1: redis/pipeline\n"
    assert night(good) == "close #1: redis/pipeline\n"
    assert night(good) == ""
    assert night(bad) == "reopen #1: redis/pipeline\n"
    (issue,) = json.loads((checkout.root / "bin/issues.json").read_text())
    assert issue["title"] == "Broken: redis/pipeline"
    assert issue["state"] == "OPEN"
    assert issue["comments"] == ["Verified again, on Redis 9.1: the run"]


def test_a_missing_ledger_is_one_line(checkout):
    done = checkout.run("cookbook", "issues", "legs/*.json")
    assert done.returncode == 2
    assert "no such file: legs/*.json" in done.stderr
