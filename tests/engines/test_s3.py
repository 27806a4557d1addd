"""A bucket of moto as a data source. moto looks at signatures when it is told to, but takes those of names that are
encoded for wrong ones, also from Amazon's own library."""

import json
import urllib.parse
import urllib.request
import xml.etree.ElementTree

import pytest

from test_stepfunctions import Moto, python

from client import own_system
from stack import wait_for

CSV = "id,name\n1,Ann\n2,Bob\n"
OBJECTS = {"people.csv": CSV, "2026/01/a b+c.json": '[{"x": 1}, {"x": 2}]', "2026/é.csv": CSV}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class Store(Moto):
    """With a bucket "lake", and one user's key."""

    def __init__(self):
        super().__init__()
        self._put("/lake", "")
        for key, text in OBJECTS.items():
            self._put("/lake/" + urllib.parse.quote(key), text)
        self._iam(Action="CreateUser", UserName="ann")
        self._iam(Action="PutUserPolicy", UserName="ann", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        answer = xml.etree.ElementTree.fromstring(self._iam(Action="CreateAccessKey", UserName="ann"))
        self.key, self.secret = (answer.find(f".//{{*}}{name}").text for name in ("AccessKeyId", "SecretAccessKey"))

    def be_strict(self, strict):
        """Does it want signatures, from the next request on?"""
        self._ask("POST", "/moto-api/reset-auth", "0" if strict else "1000000", {"Content-Type": "text/plain"})

    def _ask(self, verb, path, text, headers):
        request = urllib.request.Request(self.base + path, text.encode(), headers, method=verb)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def _scope(self, service):
        return {"Authorization": f"AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/{service}/aws4_request, "
                                 "SignedHeaders=host, Signature=0"}

    def _put(self, path, text):
        if not text:
            text = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"
        return self._ask("PUT", path, text, {"Content-Type": "application/octet-stream", **self._scope("s3")})

    def _iam(self, **fields):
        return self._ask("POST", "/", urllib.parse.urlencode({**fields, "Version": "2010-05-08"}),
                         {"Content-Type": "application/x-www-form-urlencoded", **self._scope("iam")})


@pytest.fixture(scope="module")
def store():
    python()
    moto = Store()
    yield moto
    moto.close()


@pytest.fixture
def strict(store):
    store.be_strict(True)
    yield store
    store.be_strict(False)


@pytest.fixture(scope="module")
def ann(store):
    with own_system(f"--set=platform.source-allow={urllib.parse.urlsplit(store.base).netloc}",
                    "--set=edge.limit-heavy=0") as (_, user):
        yield user


def config(store, **changes):
    given = {"bucket": "lake", "region": "eu-west-1", "endpoint": store.base, "access_key": store.key,
             "secret_key": store.secret}
    return {**given, **changes}


def probe(user, store, **changes):
    return user.post("/data-sources/test", {"type": "s3", "config": config(store, **changes)})


def test_a_key_opens_it(ann, strict):
    body = probe(ann, strict)
    assert body["success"], body
    assert [step["name"] for step in body["steps"]] == ["resolve", "connect", "auth", "query"]


def test_a_wrong_key_does_not(ann, strict):
    for changes in ({"secret_key": "wrong-secret"}, {"access_key": "AKIAWRONG"}):
        body = probe(ann, strict, **changes)
        assert not body["success"] and body["steps"][-1]["name"] == "auth", body
        assert body["error"] == "the server answers 403"
    body = probe(ann, strict, bucket="river")
    assert not body["success"] and body["error"] == "the server answers 404", body


def test_objects_are_tables(ann, store):
    source = ann.post("/data-sources", {"name": "lake", "type": "s3", "config": config(store)}, expect=201)["id"]
    ann.post("/data-catalog/refresh", {"source_id": source}, expect=202)
    names = wait_for(lambda: [row["table_name"] for row in ann.request(
        "GET", f"/data-catalog/databases/lake/tables?source_id={source}").json() if isinstance(row, dict)], "the objects")
    assert sorted(names) == sorted(OBJECTS)
    for key in ("people.csv", "2026/é.csv"):
        query = urllib.parse.urlencode({"database": "lake", "table": key, "source_id": source})
        assert ann.get(f"/data-catalog/preview?{query}")["rows"] == [{"id": "1", "name": "Ann"}, {"id": "2", "name": "Bob"}]
    query = urllib.parse.urlencode({"database": "lake", "table": "2026/01/a b+c.json"})
    assert ann.get(f"/data-catalog/preview?{query}")["rows"] == [{"x": 1}, {"x": 2}]


def test_only_what_begins_like_that(ann, store):
    source = ann.post("/data-sources", {"name": "2026", "type": "s3", "config": config(store, prefix="2026/01/")},
                      expect=201)["id"]
    ann.post("/data-catalog/refresh", {"source_id": source}, expect=202)
    path = f"/data-catalog/databases/lake/tables?source_id={source}"
    wait_for(lambda: ann.request("GET", path).status_code == 200, "the object")
    assert [row["table_name"] for row in ann.get(path)] == ["2026/01/a b+c.json"]
