"""The bus without HTTP: round trips, through the door, and changes of state with their events."""

import json
import os

from load import bus_load
from rows import Line, at_least, at_most, check, line_of, mid, rounds_of, spread
from servers import run

TURNS = """
DO $$ BEGIN
    IF to_regnamespace ('turns') IS NOT NULL THEN
        PERFORM base.actor_remove ('turns');
    END IF;
END $$;
SELECT base.actor_install ('turns');
ALTER ROLE busbar_turns PASSWORD 'turns of the bench';
CREATE TABLE turns.jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid (), user_id uuid NOT NULL, name text NOT NULL,
    status text NOT NULL DEFAULT 'idle', created_at timestamptz NOT NULL DEFAULT now (),
    updated_at timestamptz NOT NULL DEFAULT now (), UNIQUE (id, user_id));
INSERT INTO turns.jobs (user_id, name) SELECT '{user}', 'job ' || n
  FROM generate_series (1, {jobs}) n
"""
JOBS, TURNS_AT_ONCE = 1024, 256


def direct(world):
    """Caller and actor, nobody between. The broker only introduces."""
    def measure(seconds):
        return json.loads(run(world.build / "bench/bus_bench", str(seconds * 300000)))
    rounds = rounds_of(world, {"Busbar": measure})["Busbar"]
    many = line_of("bus round trip, direct, 64 in flight", "Busbar", rounds)
    many.aim = at_least(mid(rounds, "per_second"), 250000)
    alone, late = mid(rounds, "alone_p50_us"), mid(rounds, "alone_p99_us")
    one = Line("bus round trip, direct, one in flight", "Busbar", f"{1e6 / alone:,.0f}",
               aim=at_most(alone, 150, " µs p50"), p50=f"{alone / 1000:.3f}",
               p99=f"{late / 1000:.3f}", spread=spread(rounds, "alone_p50_us"))
    return [many, one]


def door(world):
    """From outside: TCP, CURVE, a token, relayed by the broker to an actor and back."""
    busbar = world.busbar
    echo = busbar.joined(world.build / "bench/bus_load", "--serve", "--broker",
                         f"ipc://{busbar.run_dir}/broker.s", "--run-dir", busbar.run_dir)
    try:
        def through(in_flight):
            def measure(seconds):
                return bus_load(busbar, ['echo.back {"id": "7f1c6a52"}'], seconds,
                                in_flight, "--broker", busbar.door, "--key", busbar.key,
                                beside=(echo,))
            return measure
        found = rounds_of(world, {"64": through(64), "one": through(1)})
    finally:
        echo.stop()
    for rounds in found.values():
        check("the door", rounds)
    many = line_of("bus round trip, through the door, 64 in flight", "Busbar", found["64"])
    many.aim = at_least(mid(found["64"], "per_second"), 100000)
    one = line_of("bus round trip, through the door, one in flight", "Busbar", found["one"])
    return [many, one]


def turns(world):
    """Guarded changes of state on one actor, each committed with its event."""
    busbar = world.busbar
    busbar.sql(TURNS.format(user=busbar.user, jobs=JOBS))
    ids = busbar.sql("SELECT id FROM turns.jobs").split()
    #  Each job is started, and when all are running, stopped again.
    lines = [f'jobs.{verb} {{"id": "{one}"}}' for verb in ("start", "stop") for one in ids]
    reader, writer = os.pipe()
    os.write(writer, b"db_password=turns of the bench\n")
    os.close(writer)
    actor = busbar.joined(
        world.build / "bench/turns_actor", "--run-dir", busbar.run_dir, "--slot", "turns.1",
        "--database", f"host={busbar.run_dir}/pg dbname=busbar", "--secrets-fd", str(reader),
        pass_fds=(reader,))
    os.close(reader)
    try:
        def measure(seconds):
            before = events()
            result = bus_load(busbar, lines, seconds, TURNS_AT_ONCE, "--broker",
                              f"ipc://{busbar.run_dir}/broker.s", "--user", busbar.user,
                              beside=(actor,))
            #  All of them come to an end, so that the next round finds every job where it was.
            result["failed"] += events() - before != result["answered"]
            busbar.sql("UPDATE turns.jobs SET status = 'idle'")
            return result

        def events():
            return int(busbar.sql("SELECT coalesce (max (off), 0) FROM turns.live_log"))
        rounds = rounds_of(world, {"Busbar": measure})["Busbar"]
        check("turns", rounds)
    finally:
        actor.stop()
    line = line_of(f"state change + durable event, one actor, {TURNS_AT_ONCE} in flight", "Busbar",
                   rounds)
    line.aim = at_least(mid(rounds, "per_second"), 20000)
    return [line]
