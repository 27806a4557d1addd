"""Schedules that are all due in the same second."""

from rows import Line, at_most, mid, spread
from servers import Wrong

JOBS, USERS = 10000, 100
#  Runs are skipped as soon as they exist: what fires is measured, not what then runs.
MAKE = f"""
DELETE FROM jobs.jobs;
INSERT INTO jobs.jobs (user_id, name, job_type, schedule, config, max_concurrent_runs, next_run_at)
SELECT u.id, 'job ' || n, 'sql', '0 0 1 1 *', '{{"query": "SELECT 1"}}', 0,
       date_trunc ('second', clock_timestamp ()) + interval '5 s'
  FROM generate_series (1, {JOBS}) n
  JOIN (SELECT id, row_number () OVER (ORDER BY id) AS place FROM identity.users LIMIT {USERS}) u
    ON u.place = n % {USERS} + 1"""
#  What others can see, looked at every few milliseconds.
WATCH = f"""
CREATE TEMP TABLE seen (at timestamptz, runs bigint);
CREATE TEMP TABLE due AS SELECT min (next_run_at) AS at FROM jobs.jobs;
DO $$
DECLARE
    n bigint := 0;
BEGIN
    WHILE n < {JOBS} AND clock_timestamp () < (SELECT d.at + interval '30 s' FROM due d) LOOP
        PERFORM pg_sleep (0.01);
        SELECT count (*) INTO n FROM jobs.job_runs;
        INSERT INTO seen VALUES (clock_timestamp (), n);
    END LOOP;
END $$;
SELECT extract (epoch FROM min (s.at) FILTER (WHERE s.runs >= {JOBS} * 0.5) - min (d.at)) * 1000,
       extract (epoch FROM min (s.at) FILTER (WHERE s.runs >= {JOBS} * 0.99) - min (d.at)) * 1000,
       max (s.runs) FROM seen s CROSS JOIN due d"""


def one_round(busbar):
    busbar.sql(MAKE)
    p50, p99, runs = busbar.sql(WATCH).splitlines()[-1].split("|")
    if int(runs) != JOBS:
        raise Wrong(f"{runs} of {JOBS} schedules fired")
    return {"p50": float(p50), "p99": float(p99)}


def schedules(world):
    """From the time when they are due until their runs can be seen."""
    rounds = [one_round(world.busbar) for _ in range(min(world.rounds, 3))]
    p99 = round(mid(rounds, "p99"))
    return [Line(f"{JOBS:,} schedules due at once: late by", "Busbar", f"{p99} ms",
                 aim=at_most(p99, 1000, " ms p99"), p50=f"{mid(rounds, 'p50'):.0f}", p99=f"{p99}",
                 spread=spread(rounds, "p99"))]
