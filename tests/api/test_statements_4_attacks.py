"""What SQL of users may not do to the server and to others, through the statement service, which keeps their sessions."""

import time

import pytest

from guest_attacks import ATTACKS, BOMBS, LEFT_BEHIND, MORE
from stack import wait_for


def execute(user, query, **body):
    return user.post("/queries/execute", {"query": query, **body})


def rows(user, query, **body):
    answer = execute(user, query, **body)
    assert answer["success"], answer
    return answer["data"]["rows"]


@pytest.fixture(scope="module")
def attacker(sign_up):
    user = sign_up("attacker")
    execute(user, "CREATE TABLE again (text text)")
    return user


@pytest.fixture(scope="module")
def victim(sign_up):
    user = sign_up("victim")
    execute(user, "CREATE TABLE secrets AS SELECT 'sesame' AS word")
    execute(user, "CREATE SEQUENCE numbers")
    execute(user, "GRANT ALL ON secrets TO PUBLIC")
    execute(user, "GRANT ALL ON numbers TO PUBLIC")
    return user


@pytest.fixture(scope="module")
def other(victim):
    return rows(victim, "SELECT current_user AS who")[0]["who"]


def refused(user, query, *codes):
    answer = execute(user, query)
    assert answer["success"] is False, query
    termination = answer["termination"]
    assert termination["type"] in ("user", "limit"), answer
    assert not codes or termination["code"] in codes, answer
    assert "/" not in answer["error"] or "/" in query, answer["error"]
    return answer


@pytest.mark.parametrize("query", ATTACKS + MORE)
def test_attacks_are_refused(attacker, victim, other, query):
    refused(attacker, query.format(other=other))
    assert rows(victim, "SELECT word FROM secrets") == [{"word": "sesame"}]


def test_nothing_of_it_has_stayed(attacker, victim):
    tables = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema"
    assert rows(attacker, tables) == [{"name": "again"}] and rows(victim, tables) == [{"name": "secrets"}]
    assert rows(attacker, "SELECT session_user = current_user AS same") == [{"same": True}]


@pytest.mark.parametrize("query", LEFT_BEHIND)
def test_what_a_statement_leaves_behind_ends_with_it(attacker, query):
    """Its session may serve the next statement: settings, locks, names and transactions are gone by then."""
    settings = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in (
        "statement_timeout", "search_path", "work_mem", "default_transaction_read_only"))
    before = rows(attacker, settings)
    execute(attacker, query)
    assert rows(attacker, settings) == before
    refused(attacker, "EXECUTE p", "26000")
    refused(attacker, "FETCH ALL FROM c", "34000")
    assert execute(attacker, "INSERT INTO again VALUES ('kept')")["success"]
    assert rows(attacker, "SELECT count(*) > 0 AS kept FROM again") == [{"kept": True}]


@pytest.mark.parametrize("query, codes", BOMBS.values(), ids=BOMBS)
def test_bombs_hurt_who_throws_them(attacker, victim, query, codes):
    refused(attacker, query, *codes, "LIMIT_EXCEEDED")
    assert rows(victim, "SELECT 1 AS one") == [{"one": 1}]


def test_a_file_is_not_read_by_xml(attacker):
    answer = execute(attacker, """SELECT xmlparse(document '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>"""
                               "<x>&e;</x>')::text AS x")
    assert "root:" not in str(answer)


def test_a_deadline_is_not_lifted_by_settings(attacker):
    """The session that this leaves, and each after it, is under the deadline of its statement."""
    execute(attacker, "SET statement_timeout = 0")
    began = time.monotonic()
    answer = execute(attacker, "SELECT pg_sleep(60)", timeout=1)
    assert answer["termination"]["type"] == "timeout" and time.monotonic() - began < 30


def test_sessions_of_two_users_are_never_mixed(attacker, victim, other):
    for _ in range(5):
        mine = rows(attacker, "SELECT session_user AS who, current_schema AS place")[0]
        his = rows(victim, "SELECT session_user AS who, current_schema AS place")[0]
        assert his == {"who": other, "place": other} and mine["who"] == mine["place"] != other


def test_one_who_takes_all_places_keeps_nobody_else_waiting(attacker, victim):
    begun = [attacker.post("/queries/execute?wait=0", {"query": f"SELECT pg_sleep(60), {n}"}, expect=202) for n in range(6)]
    assert rows(victim, "SELECT 1 AS one") == [{"one": 1}]
    for one in begun:
        attacker.post(f"/statements/{one['statement_id']}/cancel", expect=(200, 202))
    for one in begun:
        wait_for(lambda: attacker.get(f"/statements/{one['statement_id']}")["state"] == "cancelled", "it to stop")
