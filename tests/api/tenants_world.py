"""Who comes to what is Bob's, with what in hand, and what each route may tell them."""

import http.client
import json
import typing
import urllib.parse
import uuid

from identity_world import PASSWORD, address, administrator, signed_in
from stack import wait_for

MEMBER = {"org member": 403, "org admin": 200}
ADMIN = {"officer": 200, "superuser": 200}


class Wall(typing.NamedTuple):
    """What of Bob's the parameters name, a body that would do, and what others than its owner get:
    who is not named gets what is got for an id that nobody has."""
    names: tuple
    body: dict | None = None
    others: dict = {}


#  Every route with a parameter in its path. A superuser manages people, not what they own.
WALLS = {
    "workspaces.get": Wall(("workspace",)),
    "workspaces.update": Wall(("workspace",), {"name": "taken"}),
    "workspaces.delete": Wall(("workspace",)),
    "workspaces.members": Wall(("workspace",)),
    "workspaces.put_member": Wall(("workspace",), {"email": "bystander", "role": "editor"}),
    "workspaces.delete_member": Wall(("workspace", "member")),
    "notebooks.get": Wall(("notebook",)),
    "notebooks.update": Wall(("notebook",), {"name": "taken"}),
    "notebooks.delete": Wall(("notebook",)),
    "notebooks.execute": Wall(("notebook",), {"code": "1", "language": "python"}),
    "notebooks.export": Wall(("notebook",)),
    "executions.get": Wall(("execution",)),
    "executions.events": Wall(("execution",)),
    "executions.interrupt": Wall(("execution",)),
    "executions.input": Wall(("execution",), {"value": "x"}),
    "kernels.restart": Wall(("notebook",), {}),
    "kernels.shutdown": Wall(("notebook",)),
    "cloud_profiles.get": Wall(("cloud profile",)),
    "cloud_profiles.update": Wall(("cloud profile",), {"name": "taken"}),
    "cloud_profiles.delete": Wall(("cloud profile",)),
    "compute_clusters.get": Wall(("cluster",)),
    "compute_clusters.update": Wall(("cluster",), {"name": "taken"}),
    "compute_clusters.delete": Wall(("cluster",)),
    "compute_clusters.start": Wall(("cluster",), {}),
    "compute_clusters.stop": Wall(("cluster",), {}),
    "compute_clusters.restart": Wall(("cluster",), {}),
    "compute_clusters.resize": Wall(("cluster",), {"num_workers": 1}),
    "compute_clusters.events": Wall(("cluster",)),
    "repositories.get": Wall(("repository",)),
    "repositories.update": Wall(("repository",), {"name": "taken"}),
    "repositories.delete": Wall(("repository",)),
    "repositories.sync": Wall(("repository",), {}),
    "repositories.files": Wall(("repository",)),
    "repositories.content": Wall(("repository",)),
    "repositories.import": Wall(("repository",), {"path": "a.py"}),
    "pipelines.get": Wall(("pipeline",)),
    "pipelines.update": Wall(("pipeline",), {"name": "taken"}),
    "pipelines.delete": Wall(("pipeline",)),
    "pipelines.deploy": Wall(("pipeline",), {}),
    "pipelines.rollback": Wall(("pipeline",), {}),
    "pipelines.undeploy": Wall(("pipeline",), {}),
    "pipelines.run": Wall(("pipeline",), {}),
    "pipelines.deployments": Wall(("pipeline",)),
    "deployments.get": Wall(("deployment",)),
    "deployments.rollback": Wall(("deployment",), {}),
    "etl_pipelines.get": Wall(("etl pipeline",)),
    "etl_pipelines.update": Wall(("etl pipeline",), {"name": "taken"}),
    "etl_pipelines.delete": Wall(("etl pipeline",)),
    "jobs.get": Wall(("job",)),
    "jobs.update": Wall(("job",), {"name": "taken"}),
    "jobs.delete": Wall(("job",)),
    "jobs.run": Wall(("job",), {}),
    "jobs.runs": Wall(("job",)),
    "jobs.pause": Wall(("job",), {}),
    "jobs.resume": Wall(("job",), {}),
    "jobs.backfill": Wall(("job",), {"from": "2025-12-31T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
    "job_runs.get": Wall(("job", "run")),
    "job_runs.cancel": Wall(("run",), {}),
    "job_runs.repair": Wall(("run",), {}),
    "data_sources.get": Wall(("data source",)),
    "data_sources.update": Wall(("data source",), {"name": "taken"}),
    "data_sources.delete": Wall(("data source",)),
    "data_sources.test_one": Wall(("data source",), {}),
    "data_catalogs.get": Wall(("catalog",)),
    "data_catalogs.update": Wall(("catalog",), {"name": "taken"}),
    "data_catalogs.delete": Wall(("catalog",)),
    "data_catalog.tables": Wall(("database",)),
    "data_catalog.schema": Wall(("database", "table")),
    "data_catalog.preview": Wall(("database", "table")),
    "data_catalog.statistics": Wall(("database", "table"), {}),
    "data_catalog.lineage": Wall(("database", "table")),
    "queries.get": Wall(("query",)),
    "queries.update": Wall(("query",), {"name": "taken"}),
    "queries.delete": Wall(("query",)),
    "saved_queries.get": Wall(("saved query",)),
    "saved_queries.update": Wall(("saved query",), {"name": "taken"}),
    "saved_queries.delete": Wall(("saved query",)),
    "statements.get": Wall(("statement",)),
    "statements.result": Wall(("statement",)),
    "statements.cancel": Wall(("statement",), {}),
    "statements.delete": Wall(("statement",)),
    "api_keys.delete": Wall(("api key",)),
    "organizations.get": Wall(("organisation",), None, {"org member": 200, "org admin": 200}),
    "organizations.update": Wall(("organisation",), {"name": "taken"}, MEMBER),
    "organizations.delete": Wall(("organisation",), None, {"org member": 403, "org admin": 403}),
    "organizations.members": Wall(("organisation",), None, {"org member": 200, "org admin": 200}),
    "organizations.put_member": Wall(("organisation",), {"email": "bystander", "role": "admin"},
                                     {"org member": 403, "org admin": 201}),
    "organizations.delete_member": Wall(("organisation", "member"), None, MEMBER),
    "users.get": Wall(("user",), None, ADMIN),
    "users.update": Wall(("user",), {"full_name": "Taken"}, ADMIN),
    "users.delete": Wall(("user",), None, ADMIN),
    "users.remove": Wall(("user",), None, ADMIN),
    "users.set_status": Wall(("user",), {"is_active": False}, ADMIN),
    "users.toggle": Wall(("user",), {}, ADMIN),
    "users.set_role": Wall(("user",), {"role": "viewer"}, ADMIN),
}

#  What a route declares that asks for a token, and who is refused for their role alone, before anybody
#  looks for anything. `optional` and `none` name nothing in their paths and have no walls.
AUTHS = {"user": (), "admin": ("stranger", "org member", "org admin")}
FREE = ("optional", "none")

#  Who is let in, and as what. API keys have no scopes: each may what its user may.
LIVING = {
    "plain user": "stranger", "analyst": "stranger", "viewer": "stranger", "lab": "stranger",
    "admin of another org": "stranger", "who left the org": "stranger",
    "who changed the password": "stranger", "key": "stranger", "key in X-API-Key": "stranger",
    "key of who changed the password": "stranger", "key of a demoted officer": "stranger",
    "key of who was off for a while": "stranger",
    "org viewer": "org member", "org analyst": "org member", "key of an org viewer": "org member",
    "org admin": "org admin", "key of an org admin": "org admin",
    "officer": "officer", "key of an officer": "officer",
    "superuser": "superuser", "key of a superuser": "superuser",
}

#  Who is not.
DEAD = ("nobody", "broken token", "unknown key", "key past its time", "deleted key", "signed out",
        "signed out everywhere", "password changed elsewhere", "password set by an administrator",
        "disabled", "key of a disabled user", "disabled and enabled again", "deleted",
        "key of a deleted user", "token of a demoted officer")


class Answer(typing.NamedTuple):
    status: int
    headers: tuple
    body: bytes

    def json(self):
        return json.loads(self.body)


class Asker:
    """Speaks HTTP without a library that waits between headers and body, and keeps every byte."""

    def __init__(self, base, credential=None, header="Authorization"):
        self.credential = credential
        self.headers = {"X-Request-Id": "walls", "Content-Type": "application/json"}
        if credential:
            self.headers[header] = ("Bearer " if header == "Authorization" else "") + credential
        self.http = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=60)

    def ask(self, verb, path, body=None, key=None, again=True):
        """All that tells one answer from another but the time, the trace, and whether the connection is
        kept: that depends on how much of the body had come."""
        data = None if body is None else json.dumps(body).encode()
        try:
            more = {"Idempotency-Key": key} if key else {}
            self.http.request(verb.upper(), path, data, {**self.headers, **more})
            answer = self.http.getresponse()
            text = answer.read()
        except (http.client.BadStatusLine, ConnectionError):
            self.http.close()
            assert again, f"{verb} {path}: no answer"
            return self.ask(verb, path, body, key, again=False)
        headers = sorted((name.lower(), value) for name, value in answer.getheaders())
        return Answer(answer.status, tuple(pair for pair in headers
                                           if pair[0] not in ("date", "traceparent", "connection")),
                      text)

    def is_in(self):
        return self.ask("GET", "/auth/me").status == 200


def named(wall, path):
    """Which of them this path names: an alias may name what is around, too."""
    count = path.count("{")
    return wall.names[len(wall.names) - count:] if count else ()


def unknown(kind):
    return "000000000000" if kind == "account" else str(uuid.uuid4())


def placed(path, ids, kinds):
    """The path with what is Bob's in every place, and the same with ids that nobody has."""
    own, none, kinds = [], [], list(kinds)
    for part in path.split("/"):
        kind = kinds.pop(0) if part.startswith("{") else None
        own.append(ids[kind] if kind else part)
        none.append(unknown(kind) if kind else part)
    assert not kinds, f"{path} has fewer parameters than the table says"
    return "/".join(own), "/".join(none)


def key_of(user, **more):
    return user.post("/api-keys", {"name": "walls", **more}, expect=201)


class World:
    """Bob, and everybody who comes to what is his: `living` and `dead` by the names above."""

    def __init__(self, stack, sign_up, bob, ids):
        self.stack, self.sign_up, self.bob, self.ids = stack, sign_up, bob, ids
        self.root = administrator(stack)
        self.bystander = sign_up("bystander")
        self.living, self.dead = {}, {}
        self._plain()
        self._roles()
        self._members()
        self._sessions()
        self._switched()
        self._deleted()
        assert set(self.living) == set(LIVING) and set(self.dead) == set(DEAD)

    def _asker(self, credential, header="Authorization"):
        """It is good, and the edge knows it by now."""
        asker = Asker(self.stack.base, credential, header)
        assert asker.is_in()
        return asker

    def with_role(self, role):
        email = address(role)
        self.root.post("/users", {"email": email, "password": PASSWORD, "role": role}, expect=201)
        return signed_in(self.stack, email)

    def _plain(self):
        base, user = self.stack.base, self.sign_up("plain")
        key, gone = key_of(user), key_of(user)
        self.living["plain user"] = self._asker(user.token)
        self.living["key"] = self._asker(key["key"])
        self.living["key in X-API-Key"] = self._asker(key["key"], "X-API-Key")
        self.dead["nobody"] = Asker(base)
        self.dead["broken token"] = Asker(base, user.token[:-8] + "AAAAAAAA")
        self.dead["unknown key"] = Asker(base, "bb_" + "x" * 40)
        past = key_of(user, expires_at="2020-01-01T00:00:00Z")["key"]
        self.dead["key past its time"] = Asker(base, past)
        self.dead["deleted key"] = self._asker(gone["key"])
        user.delete(f"/api-keys/{gone['id']}")

    def _roles(self):
        for role in ("analyst", "viewer", "lab"):
            self.living[role] = self._asker(self.with_role(role).token)
        officer, demoted = self.with_role("admin"), self.with_role("admin")
        for name, user in (("officer", officer), ("superuser", self.root)):
            self.living[name] = self._asker(user.token)
            self.living[f"key of {'an' if name == 'officer' else 'a'} {name}"] = \
                self._asker(key_of(user)["key"])
        self.dead["token of a demoted officer"] = self._asker(demoted.token)
        self.living["key of a demoted officer"] = self._asker(key_of(demoted)["key"])
        self.root.put(f"/admin/users/{demoted.user['id']}/role", {"role": "client"})

    def _members(self):
        #  Elsewhere they may everything.
        elsewhere, org = self.sign_up("elsewhere"), self.ids["organisation"]
        other = elsewhere.post("/organizations", {"name": "Elsewhere"}, expect=201)["id"]
        self.members = {}
        self.bob.post(f"/organizations/{org}/members", {"user_id": self.ids["member"]}, expect=201)
        for name, where, role in (("admin of another org", other, "admin"), ("org viewer", org, "viewer"),
                                  ("org analyst", org, "analyst"), ("org admin", org, "admin"),
                                  ("who left the org", org, "admin")):
            user = self.members[name] = self.sign_up("member")
            owner = self.bob if where == org else elsewhere
            owner.post(f"/organizations/{where}/members", {"user_id": user.id, "role": role}, expect=201)
            self.living[name] = self._asker(user.token)
        for name in ("org viewer", "org admin"):
            self.living[f"key of an {name}"] = self._asker(key_of(self.members[name])["key"])
        left = self.members["who left the org"]
        left.get(f"/organizations/{org}")
        left.delete(f"/organizations/{org}/members/{left.id}")

    def again(self, user):
        """Another session of the same user."""
        return signed_in(self.stack, user.user["email"])

    def _sessions(self):
        self.refresh = {}
        out, everywhere, changes, reset = [self.again(self.sign_up("session")) for _ in range(4)]
        keep = {"signed out": out, "signed out everywhere": everywhere,
                "password changed elsewhere": self.again(changes), "password set by an administrator": reset}
        for name, user in keep.items():
            self.dead[name], self.refresh[name] = self._asker(user.token), user.refresh
        self.living["who changed the password"] = self._asker(changes.token)
        self.living["key of who changed the password"] = self._asker(key_of(changes)["key"])
        out.post("/auth/signout")
        everywhere.post("/auth/logout-all")
        changes.post("/auth/change-password", {"current_password": PASSWORD, "new_password": "New-" + PASSWORD})
        self.root.put(f"/users/{reset.user['id']}", {"password": "New-" + PASSWORD})

    def _switched(self):
        off, on = (self.again(self.sign_up("switched")) for _ in range(2))
        for name, user in (("disabled", off), ("disabled and enabled again", on)):
            self.dead[name], self.refresh[name] = self._asker(user.token), user.refresh
        self.dead["key of a disabled user"] = self._asker(key_of(off)["key"])
        self.living["key of who was off for a while"] = self._asker(key_of(on)["key"])
        for user in (off, on):
            self.root.put(f"/admin/users/{user.user['id']}/status", {"is_active": False})
        self.root.put(f"/admin/users/{on.user['id']}/status", {"is_active": True})

    def _deleted(self):
        user = self.again(self.sign_up("deleted"))
        self.dead["deleted"], self.refresh["deleted"] = self._asker(user.token), user.refresh
        self.dead["key of a deleted user"] = self._asker(key_of(user)["key"])
        self.root.delete(f"/admin/users/{user.user['id']}")

    def dying(self, name):
        """That asker, when all edges have heard of the end."""
        asker = self.dead[name]
        wait_for(lambda: not asker.is_in(), f"the end of: {name}")
        return asker

    def body(self, wall):
        """With the address of somebody whom everybody knows."""
        body = dict(wall.body) if wall.body is not None else None
        if body and body.get("email"):
            body["email"] = self.bystander.user["email"]
        return body

    def victim(self, asker, standing):
        """Somebody else: what is done to them is not done to Bob. For members of Bob's organisation one of
        its own, with the same members."""
        user = self.sign_up("victim")
        if standing in ADMIN:
            return {"user": user.id}
        org = user.post("/organizations", {"name": "o"}, expect=201)["id"]
        me = asker.ask("GET", "/auth/me").json()["id"]
        role = "admin" if standing == "org admin" else "viewer"
        for member, given in ((self.ids["member"], "viewer"), (me, role)):
            user.post(f"/organizations/{org}/members", {"user_id": member, "role": given}, expect=201)
        return {"organisation": org, "member": self.ids["member"]}
