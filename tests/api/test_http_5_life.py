"""Beginning and end: actors that die, several edges on a port, a graceful end, TLS."""

import signal
import subprocess
import threading

import pytest
from http_fixtures import Edge, token, wait_for
from stack import SOON


def test_a_known_route_without_actor_waits_and_an_unknown_one_is_404():
    edge = Edge().ready()
    try:
        edge.kill("shop.1")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(edge.get("/things/7").status))
        thread.start()
        edge.actor("shop")
        thread.join(SOON)
        assert answers == [200]
        assert edge.get("/never-announced").status == 404
    finally:
        edge.stop()


def test_reads_survive_the_death_of_one_of_two_instances():
    edge = Edge().ready()
    try:
        edge.actor("shop", "shop.2")
        wait_for(lambda: {edge.get("/open").json["slot"] for _ in range(8)} == {"shop.1", "shop.2"})
        failed, stop = [], threading.Event()

        def read():
            while not stop.is_set():
                answer = edge.get("/things/7")
                if answer is None or answer.status != 200:
                    failed.append(answer)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        edge.kill("shop.2")
        wait_for(lambda: all(edge.get("/open").json["slot"] == "shop.1" for _ in range(20)))
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
    finally:
        edge.stop()


def test_two_edges_share_a_port():
    edge = Edge().ready()
    try:
        port, _ = edge.edge("edge.2", edge.port)
        assert port == edge.port
        edge.kill("edge.1", signal.SIGTERM)
        wait_for(lambda: edge.get("/health/ready").status == 200)
        assert edge.get("/things/7").status == 200
    finally:
        edge.stop()


def test_a_graceful_end_finishes_what_is_under_way():
    edge = Edge().ready()
    try:
        with edge.raw() as busy, edge.raw() as idle, edge.raw(edge.admin_port) as admin:
            idle.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
            assert idle.answer().status == 200
            admin.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert admin.answer().status == 200
            busy.send("GET /slow?for=1.5&wait=5 HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: "busbar_edge_bus_in_flight 1"
                     in edge.get("/metrics", port=edge.admin_port).body.decode())
            edge.processes["edge.1"].send_signal(signal.SIGTERM)
            wait_for(lambda: "msg=draining" in edge.logged())
            admin.send("GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")
            assert admin.answer().status == 503
            answer = busy.answer()
            assert answer.status == 200 and answer.headers["connection"] == "close"
            assert edge.processes["edge.1"].wait(SOON) == 0
    finally:
        edge.stop()


def test_a_dead_broker_stops_no_request():
    edge = Edge().ready()
    try:
        edge.kill("broker")
        for _ in range(20):
            assert edge.get("/things/7").status == 200
    finally:
        edge.stop()


def certificate(directory, name):
    cert, key = str(directory / f"{name}.pem"), str(directory / f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    f"/CN={name}", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    return certificate(directory, "one"), certificate(directory, "two")


def subject(edge):
    import re
    text = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", "-alpn", "h2,http/1.1"],
                          input=b"", capture_output=True, timeout=10).stdout.decode()
    return re.search(r"subject=CN ?= ?(\w+)", text)[1], re.search(r"ALPN protocol: (\S+)", text)[1]


def test_tls_serves_http_1_1_only_and_takes_new_certificates(certificates):
    first, second = certificates
    edge = Edge(tls=first).ready()
    try:
        assert edge.get("/me", token=token()).status == 200
        assert len(edge.get("/big?n=3000000").json["text"]) == 3000000
        assert edge.get("/stream?n=3000000").body == b"x" * 3000000
        assert edge.post("/upload", b"x" * 3000000).json["size"] == 3000000
        with edge.raw() as raw:
            for n in range(5):
                raw.send(f"GET /things/{n} HTTP/1.1\r\nHost: a\r\n\r\n")
                assert raw.answer().json["id"] == str(n)
        assert subject(edge) == ("one", "http/1.1")
        for old, new in zip(first, second):
            open(old, "w").write(open(new).read())
        edge.processes["edge.1"].send_signal(signal.SIGHUP)
        wait_for(lambda: subject(edge)[0] == "two", what="new certificate")
        open(first[0], "w").write("broken")
        edge.processes["edge.1"].send_signal(signal.SIGHUP)
        wait_for(lambda: "certificate not reloaded" in edge.logged())
        assert subject(edge)[0] == "two"
        with edge.raw(edge.port) as plain:
            plain.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = plain.answer()
            assert answer is None or answer.status >= 300
    finally:
        assert edge.stop()["edge.1"] == 0
