"""A MariaDB of its own for tests: in a temporary directory, on a free port of loopback, gone afterwards."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

from stack import free_port, wait_for

SERVER = "/usr/sbin/mariadbd"


def ordinary_user():
    """MariaDB refuses to run as root: who takes its place, or None."""
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class MariaDB:
    """Superuser `root` by Unix socket; `statements` run at first start. TLS with `pair`, (certificate, key)."""

    def __init__(self, statements="", pair=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="bbm", dir="/tmp"))
        self.port = free_port()
        self.socket = self.directory / "s"
        self.user = ordinary_user()
        data = self.directory / "data"
        data.mkdir()
        self.tls = []
        if pair:
            self.tls = [f"--ssl-{name}={shutil.copy(path, self.directory)}" for name, path in zip(("cert", "key"), pair)]
        if self.user:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        made = subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={data}",
                               "--auth-root-authentication-method=normal", "--skip-test-db"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                              check=False, **self._switch())
        assert made.returncode == 0, made.stdout
        self.process = self._start(data)
        wait_for(lambda: self.socket.exists() and self.ask("SELECT 1", check=False) == 0,
                 "MariaDB", patience=30.0)
        if statements:
            self.ask(statements)

    def _switch(self):
        """What makes a program run as that user, for subprocess. Servers that begin remove the temporary tables
        that they find in their directory for such, whosever they are."""
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        return {**who, "env": {**os.environ, "TMPDIR": str(self.directory)}}

    def _start(self, data):
        return subprocess.Popen(
            [SERVER, "--no-defaults", f"--datadir={data}", f"--port={self.port}",
             f"--socket={self.socket}", f"--pid-file={self.directory / 'pid'}",
             "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
             "--performance-schema=OFF", "--skip-name-resolve", "--innodb-flush-method=fsync", *self.tls],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._switch())

    def _client(self, *options):
        """No TLS on the socket: newer ones would want to know the certificate."""
        return ["mariadb", "--no-defaults", f"--socket={self.socket}", "--skip-ssl", "-u", "root", *options]

    def ask(self, statements, check=True):
        """Run statements as superuser; the client's exit code."""
        done = subprocess.run(self._client(),
                              input=statements, text=True, capture_output=True, timeout=30, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.returncode

    def rows(self, statement):
        done = subprocess.run(self._client("-N", "-B"),
                              input=statement, text=True, capture_output=True, timeout=30, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
