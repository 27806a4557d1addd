"""Real servers for data sources: PostgreSQL, MariaDB, an HTTP server with an S3-like corner, SQLite files."""

import base64
import hashlib
import hmac
import http.server
import pathlib
import shutil
import socket
import socketserver
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import threading
import urllib.parse

import pytest

from client import signed_up
from mariadb_fixture import MariaDB
from pg_fixture import TemporaryPostgres
from stack import Stack, free_port
from trino_dialogue import Trino

PASSWORD = "s3cr3t-Of-The-Source"
S3_KEY, S3_SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"

MARIA = f"""
CREATE DATABASE shop; USE shop;
CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(10,2), at DATETIME, data BLOB, big BIGINT UNSIGNED);
INSERT INTO items VALUES (1, 'tea', 2.50, '2026-01-02 03:04:05', x'00ff', 18446744073709551615), (2, NULL, NULL, NULL, NULL, NULL);
CREATE VIEW names AS SELECT name FROM items;
CREATE USER 'reader'@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON shop.* TO 'reader'@'%';
"""

POSTGRES = f"""
CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';
CREATE SCHEMA shop AUTHORIZATION reader;
CREATE TABLE shop.items (id int PRIMARY KEY, name text NOT NULL, price numeric, tags jsonb, at timestamptz);
INSERT INTO shop.items SELECT n, 'item ' || n, n * 1.5, '{{"n": 1}}', '2026-01-02 03:04:05Z' FROM generate_series (1, 1000) n;
CREATE VIEW shop.cheap AS SELECT id, name FROM shop.items WHERE price < 10;
ALTER TABLE shop.items OWNER TO reader; ALTER VIEW shop.cheap OWNER TO reader;
"""

CSV = 'id,name,note\r\n1,"Ann, the first","said ""hi"""\r\n2,Bob,\r\n'
JSON = '{"total": 2, "rows": [{"id": 1, "name": "Ann"}, {"id": 2.5, "tags": ["a"]}]}'
LISTING = """<?xml version="1.0"?><ListBucketResult><Name>lake</Name>
<Contents><Key>people.csv</Key><Size>60</Size></Contents>
<Contents><Key>a &amp; b.json</Key><Size>9</Size></Contents></ListBucketResult>"""


def sign_v4(handler, secret):
    """The signature that an S3 store expects for this request, after AWS's document."""
    head = handler.headers["Authorization"]
    parts = dict(part.strip().split("=", 1) for part in head.split(" ", 1)[1].split(","))
    names = parts["SignedHeaders"].split(";")
    day, region, service, _ = parts["Credential"].split("/")[1:]
    url = urllib.parse.urlsplit(handler.path)
    query = "&".join(sorted(url.query.split("&"))) if url.query else ""
    headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
    canonical = "\n".join([handler.command, url.path, query, headers, ";".join(names),
                           handler.headers["x-amz-content-sha256"]])
    text = "\n".join(["AWS4-HMAC-SHA256", handler.headers["x-amz-date"], f"{day}/{region}/{service}/aws4_request",
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), parts["Signature"]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _s3(self):
        if "Authorization" not in self.headers:
            return self._answer(403, "<Error/>", "application/xml")
        ours, theirs = sign_v4(self, S3_SECRET)
        if ours != theirs:
            return self._answer(403, "<Error>SignatureDoesNotMatch</Error>", "application/xml")
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path == "/lake/":
            return self._answer(200, LISTING, "application/xml")
        if path == "/lake/people.csv":
            return self._answer(200, CSV, "binary/octet-stream")
        if path == "/lake/a & b.json":
            return self._answer(200, '[{"x": 1}]', "binary/octet-stream")
        return self._answer(404, "<Error/>", "application/xml")

    def _trino(self):
        if self.path == "/v1/info":
            return self._answer(200, '{"nodeVersion": {"version": "435"}, "starting": false}')
        host = self.headers["Host"]
        if self.path == "/v1/statement":
            return self._answer(200, f'{{"id": "q", "nextUri": "http://{host}/v1/statement/q/1", "stats": {{}}}}')
        return self._answer(200, '{"id": "q", "columns": [{"name": "_col0", "type": "integer"}], "data": [[1]], '
                                 '"stats": {"state": "FINISHED"}}')

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        if self.path.startswith("/lake"):
            return self._s3()
        if self.path.startswith("/v1/"):
            return self._trino()
        if self.path == "/people.csv":
            return self._answer(200, CSV, "text/csv")
        if self.path == "/people.json":
            return self._answer(200, JSON)
        if self.path == "/secret.json":
            known = self.headers.get("Authorization") == f"Bearer {PASSWORD}"
            return self._answer(200 if known else 401, "[1, 2]")
        if self.path == "/away":
            return self._answer(302, "", Location="/people.json")
        if self.path == "/large":
            return self._answer(200, b"[" + b"1," * (9 << 20) + b"1]")
        if self.path == "/broken.json":
            return self._answer(200, '[{"a": 1')
        return self._answer(404, "")

    def do_POST(self):
        self.server.asked.append((self.command, self.path))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/statement":
            return self._trino()
        return self._answer(404, "")


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def authority(directory, name):
    """A certificate authority of its own: its file, and what it says of 127.0.0.1: (certificate, key)."""
    paths = [directory / f"{name}.{part}" for part in ("ca", "ca-key", "csr", "crt", "key", "ext")]
    root, root_key, request, cert, key, extension = paths
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", root_key, "-out", root)
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=localhost",
            "-keyout", key, "-out", request)
    extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl("x509", "-req", "-in", request, "-CA", root, "-CAkey", root_key, "-CAcreateserial", "-days", "2",
            "-extfile", extension, "-out", cert)
    root.chmod(0o644)
    return root, (cert, key)


class Web(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self, pair=None):
        super().__init__(("127.0.0.1", free_port()), Handler)
        self.asked = []
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
            #  The shake of hands belongs to the thread of the connection.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Mute:
    """Takes connections and never says a word."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def await_caller(self):
        self.socket.settimeout(20)
        self.socket.accept()[0].close()

    def stop(self):
        self.socket.close()


class Liar(socketserver.ThreadingTCPServer):
    """Speaks as PostgreSQL does, and answers every statement with these rows of texts, be they of one width or not."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), LiarHandler)
        self.port = self.server_address[1]
        self.rows = []
        self.handle_error = lambda *_: None      # whoever hangs up, does
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class LiarHandler(socketserver.StreamRequestHandler):
    def _put(self, letter, body=b""):
        self.wfile.write(letter + struct.pack("!I", len(body) + 4) + body)

    def _answer(self, rows):
        self._put(b"1")
        self._put(b"2")
        before = None
        for row in rows:
            width = struct.pack("!h", len(row))
            if width != before:
                self._put(b"T", width + (b"c\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)) * len(row))
            before = width
            self._put(b"D", width + b"".join(struct.pack("!i", -1) if text is None else struct.pack("!i", len(text)) + text.encode()
                                            for text in row))
        self._put(b"C", b"SELECT 1\0")
        self._put(b"Z", b"I")

    def handle(self):
        while (size := self.rfile.read(4)) and (hello := self.rfile.read(struct.unpack("!I", size)[0] - 4)):
            if hello[:4] != struct.pack("!I", 80877103):
                break
            self.wfile.write(b"N")               # no TLS here
        self._put(b"R", struct.pack("!I", 0))
        self._put(b"Z", b"I")
        while letter := self.rfile.read(1):
            self.rfile.read(struct.unpack("!I", self.rfile.read(4))[0] - 4)
            if letter == b"S":
                self._answer(self.server.rows)


class World:
    """A system whose operator lets users reach these servers, and nothing else on loopback."""

    def __init__(self):
        self.parts, self.users = [], []
        self.web, self.mute, self.heard = self._keep(Web()), self._keep(Mute()), self._keep(Mute())
        self.liar = self._keep(Liar())
        self.keys = pathlib.Path(tempfile.mkdtemp(prefix="bbk", dir="/tmp"))
        self.keys.chmod(0o755)
        self.ca, self.pair = authority(self.keys, "ours")
        _, self.strange_pair = authority(self.keys, "strange")
        self.secure, self.strange = self._keep(Web(self.pair)), self._keep(Web(self.strange_pair))
        self.trino = self._keep(Trino())
        self.trino_tls = self._keep(Trino(self.pair, "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()))
        self.maria = self._keep(MariaDB(MARIA, self.pair))
        self.pg = TemporaryPostgres(tcp=True).start()
        with self.pg.connect() as db, db.cursor() as cursor:
            cursor.execute(POSTGRES)
        db.close()
        self.files = pathlib.Path(tempfile.mkdtemp(prefix="bbs", dir="/tmp"))
        self.files.chmod(0o755)
        self._sqlite()
        self.closed = free_port()
        allowed = ",".join(f"127.0.0.1:{port}" for port in
                           (self.web.port, self.secure.port, self.strange.port, self.trino.server_port,
                            self.trino_tls.server_port, self.liar.port, self.mute.port, self.heard.port, self.maria.port, self.pg.port, self.closed))
        self.stack = Stack(f"--set=platform.source-allow={allowed}", f"--set=platform.sqlite-root={self.files}",
                           f"--set=platform.source-ca={self.ca}", "--set=edge.limit-heavy=0", "--set=platform.source-test-timeout=3")
        self.stack.wait()
        self.base = self.stack.base

    def encrypt(self, pair):
        """PostgreSQL with TLS from now on; None: without."""
        for name, path in zip(("server.crt", "server.key"), pair or ()):
            there = pathlib.Path(self.pg.data) / name
            there.write_bytes(path.read_bytes())
            there.chmod(0o600)
            if self.pg.user:
                shutil.chown(there, self.pg.user)
        db = self.pg.connect()
        with db.cursor() as cursor:
            cursor.execute(f"ALTER SYSTEM SET ssl = {'on' if pair else 'off'}")
            cursor.execute("SELECT pg_reload_conf ()")
        db.close()

    def _keep(self, part):
        self.parts.append(part)
        return part

    def _sqlite(self):
        (self.files / "in").mkdir()
        with sqlite3.connect(self.files / "in" / "shop.db") as db:
            db.executescript("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, data BLOB);"
                             "INSERT INTO items VALUES (1, 'tea', 2.5, x'00ff'), (2, 'cake', NULL, NULL);"
                             "CREATE VIEW names AS SELECT name FROM items;")
        db.close()
        outside = self.outside = pathlib.Path(tempfile.mkdtemp(prefix="bbo", dir="/tmp"))
        outside.chmod(0o755)
        with sqlite3.connect(outside / "other.db") as db:
            db.execute("CREATE TABLE t (a)")
        db.close()
        (self.files / "link.db").symlink_to(outside / "other.db")
        (self.files / "way").symlink_to(outside)
        (self.files / "text.db").write_text("no database, but a text that is long enough to be looked at" * 20)

    def sign_up(self, name):
        self.users.append(signed_up(self.stack.base, name))
        return self.users[-1]

    def make(self, user, kind, name=None, **changes):
        return user.post("/data-sources", {"name": name or kind, "source_type": kind,
                                           "connection_config": self.config(kind, **changes)}, expect=201)

    def stop(self):
        for user in self.users:
            user.close()
        code = self.stack.stop()
        self.pg.close()
        for part in self.parts:
            part.stop()
        for directory in (self.files, self.outside, self.keys):
            shutil.rmtree(directory, ignore_errors=True)
        return code

    def config(self, kind, **changes):
        configs = {
            "postgresql": {"host": "127.0.0.1", "port": self.pg.port, "database": "postgres", "user": "reader",
                           "password": PASSWORD},
            "mariadb": {"host": "127.0.0.1", "port": self.maria.port, "database": "shop", "user": "reader",
                        "password": PASSWORD},
            "sqlite": {"path": "in/shop.db"},
            "http": {"url": f"http://127.0.0.1:{self.web.port}/people.json"},
            "s3": {"bucket": "lake", "endpoint": f"http://127.0.0.1:{self.web.port}", "access_key": S3_KEY,
                   "secret_key": S3_SECRET, "region": "eu-west-1"},
            "trino": {"host": "127.0.0.1", "port": self.web.port, "user": "ann"}}
        configs["mysql"] = configs["mariadb"]
        return {name: value for name, value in {**configs[kind], **changes}.items() if value is not None}


@pytest.fixture(scope="session")
def source_world():
    """One world for all tests of sources."""
    world = World()
    yield world
    assert world.stop() == 0


@pytest.fixture(scope="module")
def world(source_world):
    return source_world
