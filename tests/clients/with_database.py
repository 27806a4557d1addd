#!/usr/bin/python3
"""Runs the C actor of this directory with a PostgreSQL of its own: with_database.py PROGRAM"""

import os
import pathlib
import signal
import subprocess
import sys

HOME = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOME / "tests" / "api"))

from pg_fixture import TemporaryPostgres  # noqa: E402


def main(program):
    database = TemporaryPostgres().start()
    try:
        with database.connect() as connection, connection.cursor() as cursor:
            cursor.execute((HOME / "db/migrations/0001_base.up.sql").read_text())
            cursor.execute("SELECT base.actor_install ('conform');"
                           "ALTER ROLE busbar_conform PASSWORD 'conform of the tests'")
        reader, writer = os.pipe()
        os.write(writer, b"db_password=conform of the tests\n")
        os.close(writer)
        actor = subprocess.Popen(
            [program, "--run-dir", os.environ["BUSBAR_RUN"], "--slot", "conform.1", "--secrets-fd",
             str(reader), "--database",
             f"host={database.directory} port={database.port} dbname=postgres"], pass_fds=(reader,))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: actor.send_signal(number))
        return actor.wait()
    finally:
        database.close()


sys.exit(main(sys.argv[1]))
