"""A Trino that replays dialogues: each statement that arrives picks one by its first comment, as in
`SELECT 1 -- rows`. What asks for its catalogs is answered as Trino 435 answers these very texts."""

import copy
import http.server
import json
import re
import ssl
import threading


def page(number, last=False, **more):
    """One QueryResults, as /v1/statement gives them."""
    answer = {"id": "20260101_000000_00001_abcde", "infoUri": "http://trino.invalid/ui/query.html?1",
              "stats": {"state": "RUNNING", "scheduled": True, "totalSplits": 4, "completedSplits": min(number, 4)},
              "warnings": [], **more}
    if not last:
        answer["next"] = number + 1
    return answer


COLUMNS = [{"name": "n", "type": "bigint", "typeSignature": {"rawType": "bigint", "arguments": []}},
           {"name": "word", "type": "varchar(5)", "typeSignature": {"rawType": "varchar", "arguments": []}}]
ERROR = {"message": "line 1:8: Column 'x' cannot be resolved", "errorCode": 47, "errorName": "COLUMN_NOT_FOUND",
         "errorType": "USER_ERROR", "errorLocation": {"lineNumber": 1, "columnNumber": 8}, "failureInfo": {}}
KILLED = {"message": "Query was canceled", "errorCode": 3, "errorName": "USER_CANCELED", "errorType": "USER_ERROR"}

#  What each request is answered with: a page, a status, bytes that are no JSON, "hang" or "die". The
#  first answers the POST.
DIALOGUES = {
    "rows": [page(0), page(1, columns=COLUMNS), page(2, columns=COLUMNS, data=[[1, "a"], [2, None]]),
             503, 503, page(3, columns=COLUMNS, data=[[9007199254740993, "ü\"\n"]]), page(4, last=True)],
    "endless": [page(0)] + [page(n, columns=COLUMNS, data=[[n, "x"]] * 10) for n in range(1, 5000)],
    "error": [page(0), page(1, last=True, error=ERROR)],
    "resources": [page(0), page(1, last=True, error={**ERROR, "errorName": "EXCEEDED_MEMORY_LIMIT",
                                                     "errorType": "INSUFFICIENT_RESOURCES"})],
    "garbage": [page(0), b"<html>proxy</html>"],
    "wide": [page(0), page(1, columns=COLUMNS, data=[[1, "a", "b"]])],
    "bare": [page(0), page(1, data=[[1, "a"]])],
    "elsewhere": [page(0, nextUri="http://127.0.0.1:1/v1/steal")],
    "silent": ["hang"],
    "stuck": [page(0), "hang"],
    "dies": [page(0), page(1, columns=COLUMNS, data=[[1, "a"]]), "die"],
    "update": [page(0), page(1, last=True, updateType="INSERT", updateCount=3)],
}


LISTING = ("SELECT c.table_catalog || '.' || c.table_schema, c.table_name, CASE t.table_type WHEN 'VIEW' THEN 'view' "
           "ELSE 'table' END, NULL, c.column_name, c.data_type, c.is_nullable FROM {0}.information_schema.columns c "
           "JOIN {0}.information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
           "WHERE c.table_schema <> 'information_schema' ORDER BY c.table_schema, c.table_name, c.ordinal_position")
HEADS = {"SHOW CATALOGS": [("Catalog", "varchar(6)")],
         "listing": [("_col0", "varchar"), ("table_name", "varchar"), ("_col2", "varchar(5)"), ("_col3", "unknown"),
                     ("column_name", "varchar"), ("data_type", "varchar"), ("is_nullable", "varchar")]}

#  {catalog: {schema: {table: (kind, [(column, type, nullable)])}}}
ORDERS = ("table", [("id", "bigint", "YES"), ("name", "varchar(10)", "YES"), ("price", "decimal(3,2)", "YES"),
                    ("paid", "boolean", "YES"), ("ratio", "double", "YES"), ("marks", "array(integer)", "YES"),
                    ("more", "map(varchar(1), integer)", "YES"), ("at", "timestamp(6) with time zone", "YES"),
                    ("data", "varbinary", "YES")])
CATALOGS = {"lake": {"raw": {"events": ("table", [("n", "integer", "NO")])},
                     "sales": {"cheap": ("view", [("id", "bigint", "YES"), ("price", "decimal(3,2)", "YES")]),
                               "orders": ORDERS}},
            "mart": {"default": {"nation": ("table", [("nationkey", "bigint", "NO"), ("name", "varchar(25)", "NO")])}}}

#  Statements, as Trino 435 answered them: (columns, rows).
ANSWERS = {
    "SELECT 1": ([("_col0", "integer")], [[1]]),
    'SELECT * FROM "lake"."sales"."orders" LIMIT 51': (
        [("id", "bigint"), ("name", "varchar(10)"), ("price", "decimal(3, 2)"), ("paid", "boolean"), ("ratio", "double"),
         ("marks", "array(integer)"), ("more", "map(varchar(1), integer)"), ("at", "timestamp(6) with time zone"),
         ("data", "varbinary")],
        [[1, "tea", "2.50", True, 0.5, [1, 2], {"a": 1}, "2026-01-02 03:04:05.678901 UTC", "AP8="],
         [9007199254740993, "Tee, süß", None, None, "NaN", None, None, None, None]]),
    'SELECT count(*),count("id"),count(DISTINCT "id"),CAST(min("id") AS VARCHAR),CAST(max("id") AS VARCHAR),count("name"),'
    'count(DISTINCT "name"),CAST(min("name") AS VARCHAR),CAST(max("name") AS VARCHAR),count("price"),count(DISTINCT "price"),'
    'CAST(min("price") AS VARCHAR),CAST(max("price") AS VARCHAR),count("paid"),NULL,NULL,NULL,count("ratio"),'
    'count(DISTINCT "ratio"),CAST(min("ratio") AS VARCHAR),CAST(max("ratio") AS VARCHAR),count("marks"),NULL,NULL,NULL,'
    'count("more"),NULL,NULL,NULL,count("at"),count(DISTINCT "at"),CAST(min("at") AS VARCHAR),CAST(max("at") AS VARCHAR),'
    'count("data"),NULL,NULL,NULL FROM "lake"."sales"."orders"': (
        [(f"_col{n}", kind) for n, kind in enumerate(
            ["bigint"] + ["bigint", "bigint", "varchar", "varchar"] * 3 + ["bigint"] + ["unknown"] * 3
            + ["bigint", "bigint", "varchar", "varchar"] + (["bigint"] + ["unknown"] * 3) * 2
            + ["bigint", "bigint", "varchar", "varchar"] + ["bigint"] + ["unknown"] * 3)],
        [[2, 2, 2, "1", "9007199254740993", 2, 2, "Tee, süß", "tea", 1, 1, "2.50", "2.50", 1, None, None, None, 2, 2,
          "5.0E-1", "5.0E-1", 1, None, None, None, 1, None, None, None, 1, 1, "2026-01-02 03:04:05.678901 UTC",
          "2026-01-02 03:04:05.678901 UTC", 1, None, None, None]]),
}


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def missing(text, name):
    return {"message": f"line 1:{text.index(quoted(name)) + 1}: Catalog '{name}' does not exist", "errorCode": 44,
            "errorName": "CATALOG_NOT_FOUND", "errorType": "USER_ERROR",
            "errorLocation": {"lineNumber": 1, "columnNumber": text.index(quoted(name)) + 1}, "failureInfo": {}}


def told(columns, rows, trouble=()):
    """Pages of a result; trouble: what comes behind the first page with rows."""
    heads = [{"name": name, "type": kind, "typeSignature": {"rawType": re.split(r"\W", kind)[0], "arguments": []}}
             for name, kind in columns]
    size = max(3, len(rows) // 8)
    pages = [page(0), page(1), page(2, columns=heads)]
    for at in range(0, len(rows), size):
        pages += [page(len(pages), columns=heads, data=rows[at:at + size])] + list(trouble if at == 0 else ())
    return pages + [page(len(pages), last=True, columns=heads)]


class Trino(http.server.ThreadingHTTPServer):
    """Serves on a free port of loopback; `seen` is what was asked: (verb, path, headers, body). With a certificate
    (and its key) over TLS; `basic` is the Authorization that it wants then. `catalogs` is what it holds, `troubles`
    what comes into its way at one of them, `answers` what single statements are answered with: columns and rows, or steps."""

    daemon_threads = True

    def __init__(self, certificate=None, basic=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.base = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_port}"
        self.basic = basic
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.seen, self.statements, self.deleted = [], [], set()
        self.dead, self.headers = False, {}
        self.catalogs, self.troubles, self.answers = copy.deepcopy(CATALOGS), {}, dict(ANSWERS)
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass                                     # whoever hangs up, does

    def steps(self, text):
        """What a statement is answered with, one step a request."""
        if text in self.answers:
            answer = self.answers[text]
            return told(*answer) if isinstance(answer, tuple) else list(answer)
        if text == "SHOW CATALOGS":
            names = sorted([*self.catalogs, "jmx", "system"])
            return told(HEADS[text], [[name] for name in names], self.troubles.get(text, ()))
        found = re.search(r' FROM "((?:[^"]|"")*)"\.information_schema\.', text)
        name = found and found[1].replace('""', '"')
        if not found or text != LISTING.format(quoted(name)):
            return list(DIALOGUES[text.rsplit("-- ", 1)[-1].split("'")[0].strip()])
        if name not in self.catalogs:
            return [page(0), page(1, last=True, error=missing(text, name))]
        rows = [[f"{name}.{schema}", table, kind, None, *column] for schema, tables in sorted(self.catalogs[name].items())
                for table, (kind, columns) in sorted(tables.items()) for column in columns]
        return told(HEADS["listing"], rows, self.troubles.get(name, ()))

    def stop(self):
        self.release.set()
        self.shutdown()
        self.server_close()


class Statement:
    def __init__(self, text, steps):
        self.text, self.steps = text, steps


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._saw(text)
        if self.server.basic and self.headers["Authorization"] != self.server.basic:
            self._send(401, b"who are you?")
            return
        self.server.statements.append(Statement(text, self.server.steps(text)))
        self._step(len(self.server.statements) - 1)

    def do_GET(self):
        self._saw("")
        if self.path == "/v1/info":
            self._send(200, b'{"nodeVersion":{"version":"435"},"environment":"test","coordinator":true,"starting":false}')
            return
        number = int(self.path.split("/")[3])
        if number in self.server.deleted:
            self._send(200, json.dumps({"id": "x", "stats": {}, "error": KILLED}).encode())
        else:
            self._step(number)

    def do_DELETE(self):
        self._saw("")
        number = int(self.path.split("/")[3])
        if self.server.statements[number].text.endswith("stuck"):
            self.server.release.wait(60)
        self.server.deleted.add(number)
        self._send(204, b"")

    def _saw(self, text):
        self.server.seen.append((self.command, self.path, dict(self.headers), text))

    def _step(self, number):
        steps = self.server.statements[number].steps
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if step in ("hang", "die"):
            if step == "hang":
                self.server.release.wait(60)
            self.close_connection = True
        elif isinstance(step, int):
            self._send(step, b"busy")
        elif isinstance(step, bytes):
            self._send(200, step)
        else:
            answer = dict(step)
            token = answer.pop("next", None)
            if token is not None:
                answer.setdefault("nextUri", f"{self.server.base}/v1/executing/{number}/{token}")
            self._send(200, json.dumps(answer).encode(), self.server.headers)

    def _send(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
