"""TLS at the edge: what it allows, what it shows, and certificates that change or are no good."""

import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import xml.etree.ElementTree

import pytest

from http_fixtures import BIN, SECRET, Edge, wait_for
from stack import free_port, shared

KINDS = {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **more)


def certificate(directory, name, kind="rsa", days=2, passphrase=None):
    """(certificate, key) with that common name."""
    cert, key, csr = (directory / f"{name}.{suffix}" for suffix in ("pem", "key", "csr"))
    openssl("req", "-new", "-newkey", *KINDS[kind], "-noenc", "-subj", f"/CN={name}", "-keyout", key,
            "-out", csr)
    #  Older ones know no dates, newer ones no negative days.
    old = days < 0 and b"-not_after" in openssl("x509", "-help").stderr
    valid = ["-not_before", "20240101000000Z", "-not_after", "20250101000000Z"] if old else ["-days", days]
    openssl("x509", "-req", "-in", csr, "-signkey", key, *valid, "-out", cert)
    if passphrase:
        openssl("pkey", "-in", key, "-aes256", "-passout", f"pass:{passphrase}", "-out", csr)
        csr.replace(key)
    key.chmod(0o644)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return shared(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def edge(directory):
    """An edge that shows `shown.pem`."""
    edge = Edge(tls=certificate(directory, "shown")).ready()
    yield edge
    assert edge.stop()["edge.1"] == 0


def replace(directory, pair):
    for path, name in zip(pair, ("shown.pem", "shown.key")):
        shutil.copy(path, directory / name)


def reload(edge, text):
    """SIGHUP, until it has logged that."""
    before = len(edge.logged())
    edge.processes["edge.1"].send_signal(signal.SIGHUP)
    wait_for(lambda: text in edge.logged()[before:], what=text)
    return edge.logged()[before:]


def common_name(edge, *arguments):
    """Whose certificate a client gets that asks like that; None: no handshake."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{edge.port}", *arguments],
                          input=b"", capture_output=True, timeout=20, check=False)
    found = re.search(r"subject=CN ?= ?(\w+)", done.stdout.decode())
    return found and found[1]


def connect(edge, **context):
    settings = ssl.create_default_context()
    settings.check_hostname, settings.verify_mode = False, ssl.CERT_NONE
    for name, value in context.items():
        setattr(settings, name, value)
    return settings.wrap_socket(socket.create_connection(("127.0.0.1", edge.port), timeout=10))


@pytest.mark.skipif(not shutil.which("sslscan"), reason="sslscan is not installed")
def test_a_scanner_finds_nothing_weak(edge):
    done = subprocess.run(["sslscan", "--xml=-", f"127.0.0.1:{edge.port}"], check=True,
                          capture_output=True, timeout=120)
    found = xml.etree.ElementTree.fromstring(done.stdout)
    assert {f"{each.get('type')}{each.get('version')}" for each in found.iter("protocol")
            if each.get("enabled") == "1"} == {"tls1.2", "tls1.3"}
    ciphers = {(each.get("sslversion"), each.get("cipher")) for each in found.iter("cipher")}
    assert {version for version, _ in ciphers} == {"TLSv1.2", "TLSv1.3"}
    for version, name in ciphers:
        assert re.search("_GCM_|CHACHA20" if version == "TLSv1.3" else "^ECDHE-.*(GCM|CHACHA20)",
                         name), name
    assert found.find(".//renegotiation").get("supported") == "0"
    compression = found.find(".//compression")
    assert compression is None or compression.get("supported") == "0"
    assert all(each.get("vulnerable") == "0" for each in found.iter("heartbleed"))


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused_whatever_the_system_allows(edge, version):
    assert common_name(edge, version, "-cipher", "ALL:@SECLEVEL=0") is None


def test_nobody_renegotiates(edge):
    done = subprocess.run(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{edge.port}"],
                          input=b"R\n", capture_output=True, timeout=20, check=False)
    assert b"no renegotiation" in done.stderr


def test_a_certificate_of_another_kind_takes_the_place_of_the_old_one(edge, directory):
    assert common_name(edge) == "shown"
    replace(directory, certificate(directory, "next", "ec"))
    reload(edge, "certificate loaded")
    assert common_name(edge) == "next"
    #  Who takes nothing but the old kind gets no old certificate.
    assert common_name(edge, "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256") is None


def test_connections_outlive_a_new_certificate(edge, directory):
    with connect(edge) as held:
        held.sendall(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
        assert held.recv(4096).startswith(b"HTTP/1.1 200")
        replace(directory, certificate(directory, "renewed"))
        reload(edge, "certificate loaded")
        assert common_name(edge) == "renewed"
        held.sendall(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
        assert held.recv(4096).startswith(b"HTTP/1.1 200")


#  What is no good, and how that is said.
BAD = {
    "mismatched": "does not belong to certificate",
    "expired": "expired on 20",
    "locked": "key ",
    "garbage": "certificate ",
    "missing": "No such file or directory",
}


def bad_pair(directory, case):
    good = certificate(directory, f"good_{case}")
    if case == "mismatched":
        return good[0], certificate(directory, "other")[1]
    if case == "expired":
        return certificate(directory, "expired", days=-1)
    if case == "locked":
        return certificate(directory, "locked", passphrase="a passphrase")
    if case == "missing":
        os.unlink(good[1])
    else:
        pathlib.Path(good[0]).write_text("garbage\n")
    return good


@pytest.mark.parametrize("case", BAD)
def test_a_bad_pair_is_refused_at_the_start(directory, case):
    cert, key = bad_pair(directory, case)
    for command in (
            [BIN / "busbar", "up", "--var", directory / "v", "--port", str(free_port())],
            [BIN / "busbar-edge", "--run-dir", directory, "--slot", "edge.1", "--port", "0"]):
        done = subprocess.run([*command, "--tls-cert", cert, "--tls-key", key], capture_output=True,
                              text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
                              env={**os.environ, "JWT_SECRET": SECRET})
        assert done.returncode == 2, done.stderr
        assert BAD[case] in done.stderr and (cert in done.stderr or key in done.stderr), done.stderr


def test_a_bad_pair_leaves_the_old_one_where_it_is(edge, directory):
    for case in ("mismatched", "expired", "locked", "garbage"):
        replace(directory, bad_pair(directory, case))
        assert BAD[case] in reload(edge, "certificate not reloaded, the old one stays")
        assert common_name(edge) == "shown"
    replace(directory, certificate(directory, "good"))
    reload(edge, "certificate loaded")
    assert common_name(edge) == "good"


def test_the_chain_is_shown_with_it(edge, directory):
    pair, other = certificate(directory, "leaf"), certificate(directory, "issuer")
    pathlib.Path(pair[0]).write_text(pathlib.Path(pair[0]).read_text()
                                     + pathlib.Path(other[0]).read_text())
    replace(directory, pair)
    reload(edge, "certificate loaded")
    done = subprocess.run(["openssl", "s_client", "-showcerts", "-connect",
                           f"127.0.0.1:{edge.port}"], input=b"", capture_output=True, timeout=20,
                          check=False)
    assert done.stdout.count(b"BEGIN CERTIFICATE") == 2
