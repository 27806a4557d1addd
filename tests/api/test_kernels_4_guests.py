"""What SQL of users may not do to the server and to others, through cells; and that it can't fill the disk."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from client import signed_up
from guest_attacks import ATTACKS, BOMBS, LEFT_BEHIND
from kernel_world import Notebook
from stack import Stack

LIMIT = 24


@pytest.fixture(scope="module")
def small():
    """A system in which tables of a user may take little."""
    system = Stack(f"--set=kernels.guest-disk={LIMIT}").wait()
    yield system
    assert system.stop() == 0


def guest(system, name):
    return Notebook(signed_up(system.base, name), language="sql")


@pytest.fixture(scope="module")
def notebook(small):
    return guest(small, "guest")


@pytest.fixture(scope="module")
def neighbour(small):
    notebook = guest(small, "neighbour")
    assert notebook.run("CREATE TABLE secrets AS SELECT 'sesame' AS word")["success"]
    assert notebook.run("GRANT ALL ON secrets TO PUBLIC")["success"]
    return notebook


def refused(notebook, code, *states):
    answer = notebook.run(code)
    assert answer["success"] is False, code
    assert not states or answer["error"].split(":")[0].removeprefix("SQLSTATE ") in states, (code, answer["error"])
    assert "/" not in answer["error"].split(":", 1)[1] or "/" in code, answer["error"]
    return answer["error"]


def test_many_come_for_the_first_time_at_once(small):
    notebooks = [guest(small, f"new{number}") for number in range(8)]
    with ThreadPoolExecutor(len(notebooks)) as pool:
        answers = list(pool.map(lambda notebook: notebook.run("SELECT 1 AS one"), notebooks))
    assert [answer["error"] for answer in answers if not answer["success"]] == []


#  ---------------------------------------------------------------- the disk

FULL = f"your tables take more than {LIMIT} MiB"
ROWS = "SELECT n, repeat(md5(n::text), 60) AS text FROM generate_series(1, 20000) n"
BOMB = "SELECT repeat(md5(a::text), 60) AS text FROM generate_series(1, 30000) a, generate_series(1, 30000) b"


def test_who_has_filled_the_room_may_only_read_and_free(notebook, neighbour):
    notebook.run(f"CREATE TABLE heap AS {ROWS}")       # 40 MB at once: found out behind it
    for code in ("INSERT INTO heap SELECT * FROM heap", "CREATE TABLE more (a int)", "SELECT * INTO more FROM heap",
                 "EXPLAIN ANALYZE INSERT INTO heap VALUES (1, 'x')", "UPDATE heap SET n = 0",
                 "WITH new AS (INSERT INTO heap VALUES (1, 'x') RETURNING 1) SELECT * FROM new",
                 "CREATE INDEX ON heap (text)"):
        error = refused(notebook, code, "53100")
        assert FULL in error, (code, error)
    assert notebook.run("SELECT count(*) AS n FROM heap")["data"]["rows"] in ([{"n": 20000}], [{"n": 0}])
    assert neighbour.run("INSERT INTO secrets VALUES ('of mine')")["success"]
    assert notebook.run("DROP TABLE heap")["success"]
    assert notebook.run("CREATE TABLE IF NOT EXISTS again (a int)")["success"]


@pytest.mark.parametrize("code", [f"CREATE TABLE bomb AS {BOMB}", f"INSERT INTO again {BOMB}",
                                  f"SELECT * INTO bomb FROM ({BOMB}) all_of_it"])
def test_a_statement_that_fills_the_disk_is_stopped(notebook, code):
    """What it has written is seen, though nobody else can see the table yet."""
    notebook.run("DROP TABLE IF EXISTS again")
    notebook.run("CREATE TABLE again (text text)")
    assert FULL in refused(notebook, code, "53100")
    assert notebook.run("DROP TABLE IF EXISTS again")["success"]
    assert notebook.run("CREATE TABLE again (text text)")["success"]


#  ---------------------------------------------------------------- the server

@pytest.mark.parametrize("code", ATTACKS)
def test_attacks_are_refused(notebook, neighbour, code):
    other = neighbour.run("SELECT current_user AS who")["data"]["rows"][0]["who"]
    refused(notebook, code.format(other=other))
    assert neighbour.run("SELECT word FROM secrets LIMIT 1")["data"]["rows"] == [{"word": "sesame"}]


@pytest.mark.parametrize("code", LEFT_BEHIND)
def test_what_a_statement_leaves_behind_ends_with_it(notebook, code):
    """Each statement has a connection of its own: settings, locks, names and transactions go with it."""
    notebook.run("CREATE TABLE IF NOT EXISTS again (text text)")
    notebook.run(code)
    for name, value in (("statement_timeout", "0"), ("search_path", "pg_catalog")):
        assert notebook.run(f"SHOW {name}")["data"]["rows"][0][name] != value
    refused(notebook, "EXECUTE p", "26000")
    refused(notebook, "FETCH ALL FROM c", "34000")
    assert notebook.run("INSERT INTO again VALUES ('kept')")["success"]
    assert notebook.run("SELECT count(*) > 0 AS kept FROM again")["data"]["rows"] == [{"kept": True}]


@pytest.mark.parametrize("code, states", BOMBS.values(), ids=BOMBS)
def test_bombs_hurt_who_throws_them(notebook, neighbour, code, states):
    assert refused(notebook, code, *states)
    assert neighbour.run("SELECT 1 AS one")["data"]["rows"] == [{"one": 1}]
