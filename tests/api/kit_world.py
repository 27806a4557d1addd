"""A PostgreSQL, a broker and the actor of kit_actor/: for tests of the kit itself, without edge or identity."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import pytest
import zmq

from pg_fixture import TemporaryPostgres

HOME = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BUSBAR_BIN", HOME / "build" / "bin"))
sys.path.insert(0, str(HOME / "proto" / "python"))

import busbar  # noqa: E402
from busbar import wire  # noqa: E402
from stack import SOON, wait_for  # noqa: E402

SCHEMA = """
SELECT base.actor_install ('kit');
CREATE TABLE kit.shelves (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid (), user_id uuid NOT NULL, name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now (), updated_at timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id));
CREATE TABLE kit.books (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid (), user_id uuid NOT NULL, shelf_id uuid,
    title text NOT NULL, pages int, genre text NOT NULL, tags jsonb NOT NULL, extra jsonb, content text,
    price numeric (12, 4), printed date, read_at timestamptz, shared boolean NOT NULL, code text, pin text, note text,
    status text NOT NULL DEFAULT 'in',
    created_at timestamptz NOT NULL DEFAULT now (), updated_at timestamptz NOT NULL DEFAULT now (),
    UNIQUE (id, user_id), UNIQUE (user_id, code),
    FOREIGN KEY (shelf_id, user_id) REFERENCES kit.shelves (id, user_id) ON DELETE RESTRICT);
ALTER TABLE kit.books RENAME CONSTRAINT books_user_id_code_key TO books_code_key;
ALTER ROLE busbar_kit PASSWORD 'kit of the tests';
"""


class Failure(Exception):
    def __init__(self, status, body, meta):
        super().__init__(f"{status} {body}")
        self.status, self.body, self.meta = status, body, meta


class Caller:
    """One user, speaking straight to the actor's socket as an edge would."""

    def __init__(self, world, user=None, role="user", slot="kit.1"):
        self.world, self.id, self.slot = world, user, slot
        self.identity = {"user": user, "role": role, "kind": "user"} if user else None
        self.socket, self.endpoint, self.number = None, None, 0

    def _connect(self):
        endpoint = self.world.entry(self.slot)["endpoint"]
        if endpoint != self.endpoint:
            self.close()
            self.socket = self.world.zmq.socket(zmq.DEALER)
            self.socket.linger = 0
            self.socket.routing_id = uuid.uuid4().bytes
            self.socket.connect(endpoint)
            self.endpoint = endpoint
            self.send(wire.HELLO, role="caller", name="test", slot="test", boot=uuid.uuid4().hex)

    def send(self, number, **fields):
        self.socket.send(wire.pack(number, **fields))

    def start(self, method, params=None, body=None, ttl=10000, identity=..., **meta):
        self._connect()
        self.number += 1
        self.send(wire.CALL, id=self.number, method=method, ttl=ttl, params=params, body=body, meta=meta,
                  identity=self.identity if identity is ... else identity)
        return self.number

    def messages(self, seconds=15):
        end = time.monotonic() + seconds
        while self.socket.poll(max(1, int((end - time.monotonic()) * 1000))):
            yield from wire.unpack(self.socket.recv())
        raise AssertionError("no message came")

    def replies(self, numbers):
        """Answers of several calls in the order in which they came: (number, status, body)."""
        left, got = set(numbers), []
        for message in self.messages():
            if message.number == wire.REPLY and message.id in left:
                left.discard(message.id)
                got.append((message.id, message.status, message.body))
                if not left:
                    return got

    def ask(self, method, params=None, body=None, **meta):
        """(status, body, meta) of one call."""
        number = self.start(method, params, body, **meta)
        for message in self.messages():
            if message.number == wire.REPLY and message.id == number:
                return message.status, message.body, message.meta or {}

    def call(self, method, params=None, body=None, **meta):
        """The body of a good answer; else Failure."""
        status, answer, answer_meta = self.ask(method, params, body, **meta)
        if status >= 400:
            raise Failure(status, answer, answer_meta)
        return answer

    def refused(self, status, method, params=None, body=None, **meta):
        """The body of an error with that status."""
        got, answer, _ = self.ask(method, params, body, **meta)
        assert got == status, (got, answer)
        return answer

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class World:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="bbk")
        self.run = os.path.join(self.directory, "run")
        os.mkdir(self.run, 0o700)
        self.zmq = zmq.Context()
        self.pg = TemporaryPostgres().start()
        with self.pg.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA base; CREATE TABLE base.schema_migrations (name text)")
            cursor.execute("DROP SCHEMA base CASCADE")
            cursor.execute((HOME / "db/migrations/0001_base.up.sql").read_text())
            cursor.execute(SCHEMA)
        self.admin = self.pg.connect()
        self.broker = self.spawn([BIN / "busbar-broker", "--run-dir", self.run, "--keys-dir",
                                  os.path.join(self.directory, "keys")])
        wait_for(lambda: os.path.exists(os.path.join(self.run, "broker.s")), "the broker")
        self.actor = None
        self.start_actor()
        self.operator = busbar.Client(self.run)
        wait_for(self.entry, "the actor")

    def spawn(self, arguments, **options):
        log = open(os.path.join(self.directory, "log"), "ab")
        return subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                **options)

    def start_actor(self, slot="kit.1", *options):
        reader, writer = os.pipe()
        os.write(writer, b"db_password=kit of the tests\n")
        os.close(writer)
        conninfo = f"host={self.pg.directory} port={self.pg.port} dbname=postgres"
        program = BIN.parent / "test" / "kit_actor"
        self.actor = self.spawn([program, "--run-dir", self.run, "--slot", slot, "--database", conninfo,
                                 "--secrets-fd", reader, *options], pass_fds=(reader,))
        os.close(reader)
        return self.actor

    def entry(self, slot="kit.1"):
        entry = self.operator.directory.get(slot)
        return entry if entry and entry.get("state") == "up" else None

    def kill_actor(self):
        boot = self.entry()["boot"]
        self.actor.send_signal(signal.SIGKILL)
        self.actor.wait()
        self.start_actor()
        wait_for(lambda: (self.entry() or {}).get("boot") not in (None, boot), "the next incarnation")

    def sql(self, text, *params):
        with self.admin.cursor() as cursor:
            cursor.execute(text, params)
            return cursor.fetchall() if cursor.description else None

    def user(self, role="user"):
        return Caller(self, str(uuid.uuid4()), role)

    def log(self):
        return pathlib.Path(self.directory, "log").read_text(errors="replace")

    def close(self):
        self.operator.close()
        codes = []
        for process in (self.actor, self.broker):
            process.send_signal(signal.SIGTERM)
            try:
                codes.append(process.wait(SOON))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append("killed")
        self.admin.close()
        self.pg.close()
        self.zmq.destroy(0)
        log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert codes[0] == 0, log


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture
def ann(world):
    caller = world.user()
    yield caller
    caller.close()


@pytest.fixture
def bob(world):
    caller = world.user()
    yield caller
    caller.close()
