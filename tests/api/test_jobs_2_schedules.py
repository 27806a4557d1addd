"""Schedules follow a clock of the test's own; the process that fires them is killed at random."""

import datetime
import random
import threading
import zoneinfo

import pytest

from client import own_system
from jobs_world import end, job, notebook, start
from stack import wait_for

UTC = datetime.timezone.utc
BEGIN = int(datetime.datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp())


@pytest.fixture(scope="module")
def world():
    """Two instances, either of which may fire; the one that does is asked through the bus."""
    import busbar

    with own_system("--instances", "jobs=2,kernels=1", "--set=jobs.fake-clock=true") as (system, user), \
            busbar.Client(str(system.run)) as client:
        yield system, user, client


def advance(client, now):
    """Until somebody has fired everything that is due then, whoever dies meanwhile."""
    import busbar

    def once():
        try:
            return client.call("jobs.advance", body={"now": now}, timeout=10)
        except (busbar.BusError, TimeoutError, OSError):
            return None
    return wait_for(once, f"schedules to follow the clock to {now}", 40, 0.05)


def fired(user, work):
    """Times of the runs of a job, as Unix seconds."""
    times, before = [], ""
    while True:
        page = user.get(f"/jobs/{work['id']}/runs?limit=200{before}")
        times += [seconds(run["scheduled_for"]) for run in page if run["scheduled_for"]]
        if len(page) < 200:
            return sorted(times)
        before = f"&before={page[-1]['id']}"


def seconds(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


def values(text, low, high):
    """What one field of a schedule allows, by its own reading of it."""
    found = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            first, last = low, high
        else:
            first, _, last = span.partition("-")
            first, last = int(first), int(last or (high if step else first))
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def model(schedule, zone, after, until):
    """Firings in (after, until], minute by minute of the wall clock."""
    minute, hour, day, month, weekday = schedule.split()
    wild = minute[0] == "*" or hour[0] == "*"
    minutes, hours = values(minute, 0, 59), values(hour, 0, 23)
    days, months = values(day, 1, 31), values(month, 1, 12)
    weekdays = {number % 7 for number in values(weekday, 0, 7)}
    zone = zoneinfo.ZoneInfo(zone)

    def shows(clock):
        if clock.minute not in minutes or clock.hour not in hours or clock.month not in months:
            return False
        by_day, by_weekday = clock.day in days, clock.isoweekday() % 7 in weekdays
        if day[0] == "*" or weekday[0] == "*":
            return by_day and by_weekday
        return by_day or by_weekday

    times, latest = [], None
    one = datetime.timedelta(minutes=1)
    for at in range(after // 60 * 60 - 7200, until + 1, 60):
        clock = datetime.datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        passed = [clock] if wild or latest is None else \
            [latest + one * n for n in range(1, int((clock - latest) / one) + 1)]
        latest = clock if latest is None else max(latest, clock)
        if at > after and any(shows(moment) for moment in passed):
            times.append(at)
    return times


def idle(user, **fields):
    """A job whose runs are there and do nothing: what fires is all that is asked."""
    return job(user, query="SELECT 1", max_concurrent_runs=0, **fields)


def test_a_schedule_fires_when_the_clock_says(world):
    system, user, client = world
    advance(client, BEGIN)
    work = idle(user, schedule="30 12 * * *")
    assert seconds(work["next_run_at"]) == BEGIN + 1800
    advance(client, BEGIN + 1799)
    assert fired(user, work) == []
    #  By this call, or by a look that was under way and found the clock set.
    advance(client, BEGIN + 1800)
    advance(client, BEGIN + 1800)
    assert fired(user, work) == [BEGIN + 1800]
    assert seconds(user.get(f"/jobs/{work['id']}")["next_run_at"]) == BEGIN + 1800 + 86400
    user.delete(f"/jobs/{work['id']}")


def test_a_disabled_job_only_runs_by_hand(world):
    system, user, client = world
    now = advance(client, BEGIN + 7200)["now"]
    work = idle(user, schedule="* * * * *", enabled=False)
    assert work["next_run_at"] is None
    advance(client, now + 600)
    assert fired(user, work) == []
    assert end(user, start(user, work))["state_detail"] == "skipped"
    assert seconds(user.post(f"/jobs/{work['id']}/resume")["next_run_at"]) == now + 660
    advance(client, now + 660)
    assert user.post(f"/jobs/{work['id']}/pause")["next_run_at"] is None
    advance(client, now + 1200)
    assert fired(user, work) == [now + 660]
    #  What a client sends back unchanged moves nothing; another schedule counts from now on.
    user.post(f"/jobs/{work['id']}/resume")
    row = user.get(f"/jobs/{work['id']}")
    assert user.put(f"/jobs/{work['id']}", row)["next_run_at"] == row["next_run_at"]
    row = user.put(f"/jobs/{work['id']}", {"schedule": "@hourly"})
    assert seconds(row["next_run_at"]) % 3600 == 0
    assert user.put(f"/jobs/{work['id']}", {"schedule": None})["next_run_at"] is None
    user.delete(f"/jobs/{work['id']}")


def test_missed_firings_by_policy(world):
    system, user, client = world
    now = advance(client, BEGIN + 10800)["now"]
    works = {policy: idle(user, schedule="*/10 * * * *", catchup=policy)
             for policy in ("latest", "all", "skip")}
    advance(client, now + 3605)
    every = list(range(now + 600, now + 3601, 600))
    assert fired(user, works["all"]) == every
    assert fired(user, works["latest"]) == every[-1:]
    assert fired(user, works["skip"]) == every[-1:]
    advance(client, now + 3605 + 1200 + 300)
    assert fired(user, works["skip"]) == every[-1:]
    assert fired(user, works["latest"]) == [every[-1], now + 4800]
    for work in works.values():
        user.delete(f"/jobs/{work['id']}")


def test_backfill(world):
    system, user, client = world
    now = advance(client, BEGIN + 18000)["now"]
    work = idle(user, schedule="0 * * * *")
    user.put(f"/jobs/{work['id']}", {"max_concurrent_runs": 3, "config": {"tasks": [{
        "task_key": "one", "type": "notebook",
        "notebook_id": notebook(user, "SELECT 1", language="sql")}]}})
    span = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-01T12:00:00Z"}
    body = user.post(f"/jobs/{work['id']}/backfill", span, expect=202)
    assert (body["intervals"], body["created"], body["again"]) == (12, 12, 0)
    rows = wait_for(lambda: (rows := user.get(f"/jobs/{work['id']}/runs"))
                    and all(row["status"] == "success" for row in rows) and rows, "all of it", 40, 0.1)
    assert {row["trigger"] for row in rows} == {"backfill"}
    first = min(rows, key=lambda row: row["scheduled_for"])
    assert first["interval_start"] == "2026-03-01T00:00:00.000000Z"
    again = user.post(f"/jobs/{work['id']}/backfill", span, expect=202)
    assert (again["created"], again["again"]) == (0, 0)
    again = user.post(f"/jobs/{work['id']}/backfill", {**span, "reprocess": "completed"}, expect=202)
    assert (again["created"], again["again"]) == (0, 12)
    assert "to" in user.post(f"/jobs/{work['id']}/backfill", {**span, "to": span["from"]},
                             expect=400)["details"]
    assert now and user.delete(f"/jobs/{work['id']}")


def test_many_runs_of_the_past_do_not_keep_a_manual_one_waiting(world):
    system, user, client = world
    work = idle(user, schedule="* * * * *", enabled=False)
    user.put(f"/jobs/{work['id']}", {"max_concurrent_runs": 1, "config": {"tasks": [{
        "task_key": "one", "type": "notebook",
        "notebook_id": notebook(user, "SELECT pg_sleep (0.2)", language="sql")}]}})
    body = user.post(f"/jobs/{work['id']}/backfill", {"from": "2026-01-01T00:00:00Z",
                                                      "to": "2026-01-15T00:00:00Z"}, expect=202)
    assert body["created"] == 14 * 1440
    run = start(user, work)
    row = end(user, run, 20)
    assert row["status"] == "success"
    assert len(user.get(f"/jobs/{work['id']}/runs?status=success")) < 20
    user.delete(f"/jobs/{work['id']}")


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
KINDS = ("*/15 * * * *", "0 * * * *", "30 2 * * *", "0 1,2,3 * * *", "15 */2 * * *", "59 23 * * *",
         "0 0 * * 0", "5 4 29 * 1", "*/20 1-3 * * *", "0 6 * * 1-5")


def kill(system, name):
    """If it is there: it may be on its way back from the kill before."""
    try:
        system.kill(name)
    except (AssertionError, ProcessLookupError):
        pass


def test_a_day_of_200_jobs_with_random_kills(world):
    """Through the night in which Europe's clocks go forward."""
    system, user, client = world
    chance = random.Random(7)
    begin = BEGIN + 6 * 3600
    advance(client, begin)
    jobs = []
    for number in range(200):
        fields = {"schedule": KINDS[number % len(KINDS)], "timezone": ZONES[number // 10 % 5],
                  "catchup": "all"}
        jobs.append((fields, idle(user, name=f"job {number}", **fields)))
    now, killers = begin, []
    while now < begin + 86400:
        now = min(begin + 86400, now + chance.choice((1800, 3600, 7200, 10800)))
        if chance.random() < 0.5:
            killers.append(threading.Timer(chance.uniform(0, 0.1), kill,
                                           (system, f"jobs.{chance.randint(1, 2)}")))
            killers[-1].start()
        advance(client, now)
    for killer in killers:
        killer.join()
    advance(client, now)
    for fields, work in jobs:
        assert fired(user, work) == model(fields["schedule"], fields["timezone"], begin, now), fields
