"""A Trino that replays dialogues: each statement that arrives picks one by its first comment, as in
`SELECT 1 -- rows`."""

import http.server
import json
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


class Trino(http.server.ThreadingHTTPServer):
    """Serves on a free port of loopback; `seen` is what was asked: (verb, path, headers, body). With a certificate
    (and its key) over TLS; `basic` is the Authorization that it wants then."""

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
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass                                     # whoever hangs up, does

    def stop(self):
        self.release.set()
        self.shutdown()
        self.server_close()


class Statement:
    def __init__(self, text):
        self.text = text
        self.steps = list(DIALOGUES[text.rsplit("-- ", 1)[-1].split("'")[0].strip()])


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
        self.server.statements.append(Statement(text))
        self._step(len(self.server.statements) - 1)

    def do_GET(self):
        self._saw("")
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
