"""Schedules that are due in the same minute, as those of people are; states that many follow."""

from load import live_load
from rows import Line, at_least, at_most, check, mid, spread
from servers import Wrong

JOBS, USERS = 10000, 100
#  Cron knows no seconds: whatever is due in a minute is due when that begins. A few schedules, of
#  many people, in zones of theirs.
MAKE = f"""
INSERT INTO jobs.jobs (user_id, name, job_type, schedule, timezone, config)
SELECT u.id, 'job ' || n, 'sql',
       (ARRAY ['0 0 1 1 *', '0 6 * * mon-fri', '*/5 * * * *', '30 2 * * *']) [n % 4 + 1],
       (ARRAY ['UTC', 'Europe/Berlin', 'America/New_York']) [n % 3 + 1], '{{"query": "SELECT 1"}}'
  FROM generate_series (1, {JOBS}) n
  JOIN (SELECT id, row_number () OVER (ORDER BY id) AS place FROM identity.users LIMIT {USERS}) u
    ON u.place = n % {USERS} + 1"""
#  Their minute begins when we can wait for it. What others can see is looked at every few
#  milliseconds: a run counts when it is committed.
WATCH = f"""
BEGIN;
CREATE TEMP TABLE seen (at timestamptz, runs bigint);
CREATE TEMP TABLE due AS SELECT date_trunc ('second', clock_timestamp ()) + interval '6 s' AS at;
UPDATE jobs.jobs SET next_run_at = due.at FROM due;
COMMIT;
DO $$
DECLARE
    n bigint := 0;
BEGIN
    PERFORM pg_sleep_until (d.at) FROM due d;
    WHILE n < {JOBS} AND clock_timestamp () < (SELECT d.at + interval '30 s' FROM due d) LOOP
        PERFORM pg_sleep (0.01);
        SELECT count (*) INTO n FROM jobs.job_runs r JOIN due d ON r.scheduled_for = d.at;
        INSERT INTO seen VALUES (clock_timestamp (), n);
    END LOOP;
END $$;
SELECT extract (epoch FROM min (s.at) FILTER (WHERE s.runs >= {JOBS} * 0.5) - min (d.at)) * 1000,
       extract (epoch FROM min (s.at) FILTER (WHERE s.runs >= {JOBS} * 0.99) - min (d.at)) * 1000,
       max (s.runs) FROM seen s CROSS JOIN due d"""
DUE = "SELECT count (*) FROM jobs.jobs WHERE next_run_at <= clock_timestamp ()"
OPEN = "SELECT count (*) FROM jobs.job_runs WHERE completed_at IS NULL"


def clear(busbar):
    """What waits goes, what runs ends by itself."""
    busbar.wait(lambda: busbar.sql(DUE) == "0")
    busbar.sql("DELETE FROM jobs.job_runs WHERE state_detail = 'queued'")
    busbar.wait(lambda: busbar.sql(OPEN) == "0")
    busbar.sql("DELETE FROM jobs.jobs")


def one_round(busbar):
    busbar.sql(MAKE)
    p50, p99, runs = busbar.sql(WATCH).splitlines()[-1].split("|")
    clear(busbar)
    if int(runs) != JOBS:
        raise Wrong(f"{runs} of {JOBS} schedules fired")
    return {"p50": float(p50), "p99": float(p99)}


def schedules(world):
    """From the time when they are due until their runs can be seen; then they begin to run, as far
    as limits allow."""
    rounds = [one_round(world.busbar) for _ in range(min(world.rounds, 3))]
    p99 = round(mid(rounds, "p99"))
    return [Line(f"{JOBS:,} schedules due in one minute: late by", "Busbar", f"{p99} ms",
                 aim=at_most(p99, 1000, " ms p99"), p50=f"{mid(rounds, 'p50'):.0f}", p99=f"{p99}",
                 spread=spread(rounds, "p99"))]


FOLLOWERS, CHANGES, RUNS = 200, 1000, 64
#  They wait for a place that their job does not give them, and only wait.
WAITING = """
WITH j AS (INSERT INTO jobs.jobs (user_id, name, job_type, config, max_concurrent_runs)
           VALUES ('{user}', 'waits', 'sql', '{{"query": "SELECT 1"}}', 0) RETURNING id, user_id)
INSERT INTO jobs.job_runs (job_id, user_id, trigger)
SELECT j.id, j.user_id, 'manual' FROM j, generate_series (1, {runs}) RETURNING id"""


def one_storm(busbar, build, seconds):
    runs = busbar.sql(WAITING.format(user=busbar.user, runs=RUNS)).split()
    result = live_load(build, busbar, seconds, "--connections", FOLLOWERS, "--rate", CHANGES,
                       "--channel", "job_runs", "--runs", ",".join(runs))
    check("states", [result])
    heard = result["healthy"]
    if heard["lost"] or heard["missing"] or heard["gaps"]:
        raise Wrong(f"{heard} of {result['events']} changes to {heard['hearers']}")
    told = busbar.sql("SELECT count (*) FROM jobs.live_log"
                      f" WHERE ch = 'user:{busbar.user}/job_runs'"
                      f" AND at > clock_timestamp () - interval '{seconds + 60} s'")
    if int(told) < result["events"]:
        raise Wrong(f"{told} events for {result['events']} changes")
    return result | {"rate": result["events"] / result["seconds"],
                     "cpu": result["cpu"] * result["requests"] / result["events"]}


def states(world):
    """Cancelled, queued again, and so on: request, commit, broker, edge, and every follower knows
    of every state; who is behind hears the newest one of each run."""
    rounds = [one_storm(world.busbar, world.build, world.seconds)
              for _ in range(min(world.rounds, 3))]
    rate = mid(rounds, "rate")
    share = sum(one["healthy"]["delivered"] for one in rounds) / \
        sum(one["events"] * FOLLOWERS for one in rounds)
    return [Line(f"states of runs to {FOLLOWERS} followers, none lost", "Busbar", f"{rate:,.0f}/s",
                 aim=at_least(round(rate), CHANGES * 0.99), p50=f"{mid(rounds, 'commit_p50'):.1f}",
                 p99=f"{mid(rounds, 'commit_p99'):.1f}", cpu=f"{mid(rounds, 'cpu'):.0f}", spread=spread(rounds, "rate")),
            Line("of them as they came, others replaced by newer ones", "Busbar", f"{share:.1%}")]
