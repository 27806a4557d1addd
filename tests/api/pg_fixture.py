#!/usr/bin/python3
"""A PostgreSQL of its own for tests: in a temporary directory, passwords asked everywhere, gone afterwards.

    with TemporaryPostgres() as pg:
        pg.conninfo()                       # superuser, database postgres

or around any program, which finds the superuser's connection string in BUSBAR_TEST_DATABASE:

    tests/api/pg_fixture.py build/unit/test_db …
"""

import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

START_PATIENCE = 60.0
STOP_PATIENCE = 30.0

SETTINGS = {
    "fsync": "off",                         # a test's data may die with the machine
    "shared_buffers": "32MB",
    "max_connections": "200",
    "wal_level": "logical",
    "max_slot_wal_keep_size": "64MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "restart_after_crash": "on",
}


def bindir():
    """Where initdb and postgres live: the newest that is installed."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if found:
        return os.path.dirname(max(found, key=lambda path: int(path.split("/")[4])))
    return subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True,
                          text=True).stdout.strip()


def ordinary_user():
    """PostgreSQL refuses to run as root: name of the user that takes its place, or None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            pass
    raise RuntimeError("no ordinary user to run PostgreSQL as")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TemporaryPostgres:
    """Started by start() or `with`; settings override those above. With tcp it listens on loopback too."""

    superuser = "bootstrap"

    def __init__(self, tcp=False, **settings):
        self.settings = {**SETTINGS, **settings}
        self.tcp = tcp
        self.port = free_port() if tcp else 5432
        self.password = secrets.token_hex(16)
        self.directory = None
        self.process = None
        self.user = ordinary_user()
        self.bin = bindir()

    #  ---- life ----

    def _as_user(self):
        if self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def start(self):
        if self.directory is None:
            self._create()
        log = open(os.path.join(self.directory, "log"), "ab")
        self.process = subprocess.Popen(
            [os.path.join(self.bin, "postgres"), "-D", self.data], stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, cwd=self.directory, start_new_session=True, **self._as_user())
        log.close()
        self._await_ready()
        return self

    def _create(self):
        self.directory = tempfile.mkdtemp(prefix="bbpg")
        self.data = os.path.join(self.directory, "data")
        secret = os.path.join(self.directory, "password")
        with open(secret, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self.password)
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            for path in (self.directory, secret):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        subprocess.run(
            [os.path.join(self.bin, "initdb"), "-N", "-U", self.superuser, "-A", "scram-sha-256",
             "--pwfile", secret, "--locale=C.UTF-8", "-E", "UTF8", "-D", self.data],
            check=True, stdout=subprocess.DEVNULL, cwd=self.directory, **self._as_user())
        os.unlink(secret)
        settings = {**self.settings, "port": str(self.port),
                    "listen_addresses": "127.0.0.1" if self.tcp else "",
                    "unix_socket_directories": self.directory}
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _await_ready(self):
        pid_file = os.path.join(self.data, "postmaster.pid")
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with open(pid_file) as file:
                    lines = file.read().split("\n")
                if lines[0] == str(self.process.pid) and lines[7].strip() == "ready":
                    return
            except (OSError, IndexError):
                pass
            time.sleep(0.01)
        raise RuntimeError("PostgreSQL did not start:\n" + self.log())

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast. SIGQUIT: at once, as if the power failed."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, how=signal.SIGINT):
        self.stop(how)
        self.start()

    def close(self):
        self.stop(signal.SIGQUIT)
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    #  ---- use ----

    def conninfo(self, database="postgres", user=None, password=None):
        return (f"host={self.directory} port={self.port} user={user or self.superuser} "
                f"password={password or self.password} dbname={database}")

    def connect(self, database="postgres", user=None, password=None):
        """A psycopg2 connection that commits each statement."""
        import psycopg2
        connection = psycopg2.connect(self.conninfo(database, user, password))
        connection.autocommit = True
        return connection

    def log(self):
        with open(os.path.join(self.directory, "log"), errors="replace") as file:
            return file.read()


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    with TemporaryPostgres() as pg:
        environment = {**os.environ, "BUSBAR_TEST_DATABASE": pg.conninfo()}
        code = subprocess.run(arguments, env=environment).returncode
        if code:
            sys.stderr.write(pg.log()[-4000:])
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
