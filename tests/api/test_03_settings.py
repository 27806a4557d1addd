"""Settings of busbar up: another PostgreSQL, .env, TLS, given secrets."""

import ssl
import subprocess

import httpx
import pytest

from client import User
from pg_fixture import TemporaryPostgres
from stack import Stack, free_port, shared, wait_for

PASSWORD = "Correct-horse-7-battery"


def sign_up(base, email="someone@example.org", **options):
    user = User(base, **options)
    user.token = user.post("/auth/signup", {"email": email, "password": PASSWORD},
                           expect=(200, 201))["token"]
    return user


@pytest.fixture(scope="module")
def postgres():
    with TemporaryPostgres(tcp=True) as pg:
        yield pg


def test_another_postgresql_is_used_when_it_is_named(postgres):
    url = (f"postgresql+asyncpg://{postgres.superuser}:{postgres.password}"
           f"@127.0.0.1:{postgres.port}/elsewhere")
    system = Stack(environment={"DATABASE_URL": url}).wait()
    try:
        sign_up(system.base)
        assert "postgres" not in {row["name"] for row in system.processes()}
        assert not (system.var / "v" / "pg").exists()
        with postgres.connect("elsewhere") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM identity.users WHERE email = 'someone@example.org'")
            assert cursor.fetchone() == (1,)
        assert "0001_base" in system.busbar("migrate", "status")
    finally:
        assert system.stop() == 0


def test_dotenv_counts_and_stays_out_of_sight():
    secret = "only-in-dotenv-" + "x" * 32
    system = Stack(dotenv=f'JWT_SECRET="{secret}"\nADMIN_EMAIL=boss@example.org\n'
                          f"ADMIN_PASSWORD='{PASSWORD}'\nENVIRONMENT=testing\n").wait()
    try:
        boss = User(system.base)
        answer = boss.post("/auth/signin", {"email": "boss@example.org", "password": PASSWORD})
        assert answer["token"]
        assert boss.get("/health")["environment"] == "testing"
        assert not (system.var / "v" / "secrets" / "jwt_secret").exists()
        for row in system.processes():
            with open(f"/proc/{row['pid']}/environ", "rb") as environment:
                seen = environment.read().decode()
            assert secret not in seen and PASSWORD not in seen, row["slot"]
    finally:
        assert system.stop() == 0


def test_tls_is_spoken_when_a_certificate_is_given(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-out", str(cert), "-keyout", str(key)], check=True, capture_output=True)
    shared(tmp_path)
    key.chmod(0o644)
    system = Stack("--tls-cert", str(cert), "--tls-key", str(key)).wait()
    try:
        assert system.ready == f"ready https://127.0.0.1:{system.port}"
        with httpx.Client(verify=ssl.create_default_context(cafile=cert),
                          trust_env=False) as client:
            assert client.get(f"https://127.0.0.1:{system.port}/health").status_code == 200
    finally:
        assert system.stop() == 0


def test_the_door_takes_a_key_and_a_token_that_the_commands_made():
    import busbar

    door = f"tcp://127.0.0.1:{free_port()}"
    system = Stack("--door", door).wait()
    try:
        sign_up(system.base)
        key = system.busbar("key", "new", "laptop").strip()
        token = system.busbar("token", "--user", "someone@example.org").strip()

        def admitted():
            #  The broker looks for new keys once a second.
            try:
                return busbar.Client(door, keys=key, token=token)
            except busbar.Refused:
                return None

        with wait_for(admitted, "the broker to know the key") as client:
            assert client.call("workspaces.create", name="from outside")["name"] == "from outside"
        with busbar.Client(door, keys=key) as nobody, pytest.raises(busbar.BusError) as refused:
            nobody.call("workspaces.create", name="from nobody")
        assert refused.value.status == 401
    finally:
        assert system.stop() == 0
