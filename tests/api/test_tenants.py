"""Every route with a parameter, asked by Ann with what is Bob's: as if it were not there. Generated from
what the system says of itself."""

import json
import uuid

import httpx
import pytest

from client import LiveError, User
from kernel_world import Notebook

VERBS = ("get", "post", "put", "patch", "delete")
#  Where one comes without a token.
DOORS = ("signup", "register", "signin", "login", "refresh", "forgot-password", "reset-password",
         "verify-email", "resend-verification")
OPEN = {f"{root}/auth/{door}" for root in ("", "/api", "/api/v1") for door in DOORS} | {
    "/", "/health", "/health/live", "/health/ready", "/docs", "/redoc", "/openapi.json",
    "/api/v1/openapi.json", "/app/"}


@pytest.fixture(scope="module")
def routes(stack):
    """[(verb, path, operation)] of everything that the system itself announces: what an example of an
    earlier test announced stays known when it has gone."""
    document = httpx.get(stack.base + "/openapi.json", trust_env=False).json()
    found = [(verb, path, operation) for path, item in document["paths"].items()
             for verb, operation in item.items()
             if verb in VERBS and not path.startswith(("/hello/", "/own/"))]
    assert len(found) > 60
    return found


def is_free(operation):
    """It says itself that no token is needed: the document as a whole asks for one."""
    security = operation.get("security", [{"bearer": []}])
    return security == [] or {} in security


@pytest.fixture(scope="module")
def possessions(sign_up):
    """One of everything that Bob can have: {kind: id}."""
    bob, friend = sign_up("bob"), sign_up("friend")
    notebook = Notebook(bob)
    execution = notebook.run("1")["execution_id"]
    key = bob.post("/api-keys", {"name": "k"}, expect=201)
    organisation = bob.post("/organizations", {"name": "o"}, expect=201)
    bob.post(f"/workspaces/{notebook.workspace}/members", {"email": friend.user["email"]}, expect=201)
    return bob, {"workspace": notebook.workspace, "notebook": notebook.id, "execution": execution,
                 "api key": key["id"], "organisation": organisation["id"], "user": bob.id,
                 "personal organisation": bob.get("/auth/me")["organization_id"], "member": friend.id,
                 "account": bob.get("/auth/me")["account_id"], "nothing": str(uuid.uuid4())}


BODIES = ({"name": "taken", "role": "viewer", "email": "x@example.org", "code": "1", "value": "x",
           "is_active": False, "full_name": "Taken", "user_id": None}, {})


def fill(path, value, other=None):
    """Every parameter of the path is `value`, the ones behind the first `other`."""
    parts, first = [], True
    for part in path.split("/"):
        if part.startswith("{"):
            parts.append(value if first or other is None else other)
            first = False
        else:
            parts.append(part)
    return "/".join(parts)


def answers(user, verb, path, operation):
    """The answers with every body that gets past the checks of the fields."""
    if verb in ("get", "delete"):
        return [user.request(verb.upper(), path)]
    return [user.request(verb.upper(), path, body) for body in BODIES]


def test_what_is_bobs_is_not_there_for_ann(routes, possessions, ann):
    bob, ids = possessions
    before = state(bob, ids)
    wrong, asked = [], 0
    for verb, path, operation in routes:
        if "{" not in path or path.startswith("/app"):
            continue
        for kind, value in ids.items():
            for target in {fill(path, value), fill(path, value, ids["member"]), fill(path, value, ann.id)}:
                for answer in answers(ann, verb, target, operation):
                    asked += 1
                    role_route = answer.status_code == 403 and \
                        ("/users/" in path or "/admin/" in path)
                    #  A wrong body may be refused before anybody looks for the row.
                    checked = answer.status_code == 400 and answer.json()["details"]
                    if not (answer.status_code == 404 or role_route or checked):
                        wrong.append((verb, target, kind, answer.status_code, answer.text[:200]))
    assert not wrong, f"{len(wrong)} of {asked}: {wrong[:10]}"
    assert asked > 300
    assert state(bob, ids) == before


def state(bob, ids):
    """What Bob sees of what he has."""
    return [bob.get(f"/workspaces/{ids['workspace']}"), bob.get(f"/notebooks/{ids['notebook']}"),
            bob.get(f"/workspaces/{ids['workspace']}/members"),
            bob.get(f"/organizations/{ids['organisation']}"),
            bob.get(f"/organizations/{ids['organisation']}/members"), bob.get("/organizations"),
            [key["id"] for key in bob.get("/api-keys")], bob.get("/auth/me"),
            bob.get(f"/executions/{ids['execution']}")["state"]]


def test_each_reading_route_finds_what_is_ones_own(routes, possessions):
    """The check above means something: Bob finds his with the same addresses."""
    bob, ids = possessions
    wanted = {"/workspaces/{id}": "workspace", "/notebooks/{id}": "notebook",
              "/executions/{id}": "execution", "/organizations/{id}": "organisation",
              "/users/{user}": "user", "/notebooks/{id}/export": "notebook",
              "/workspaces/{id}/members": "workspace", "/organizations/{id}/members": "organisation",
              "/executions/{id}/events": "execution"}
    known = {path for verb, path, _ in routes if verb == "get"}
    for path, kind in wanted.items():
        assert path in known, (path, sorted(known))
        bob.get(fill(path, ids[kind]))


def test_lists_hold_ones_own(routes, possessions, ann, sign_up):
    fresh = sign_up("fresh")
    _, ids = possessions
    for verb, path, operation in routes:
        if verb != "get" or "{" in path or is_free(operation) or path == "/events":
            continue
        answer = fresh.request("GET", path)
        if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
            continue
        for kind, value in ids.items():
            assert value not in answer.text, (path, kind)


def test_filters_do_not_reach_others(routes, possessions, ann):
    _, ids = possessions
    for verb, path, operation in routes:
        if verb != "get" or "{" in path or path == "/events":
            continue
        for parameter in operation.get("parameters", ()):
            for value in (ids["workspace"], ids["notebook"], ids["user"]):
                if parameter["in"] == "query" and parameter["name"].endswith("_id"):
                    answer = ann.request("GET", path, params={parameter["name"]: value})
                    assert answer.status_code in (200, 403, 404), (path, answer.text)
                    if answer.status_code == 200:
                        assert answer.json() == [], (path, parameter["name"])


def test_every_route_asks_for_a_token(routes, possessions, anyone):
    _, ids = possessions
    wrong = []
    for verb, path, operation in routes:
        if is_free(operation):
            continue
        target = fill(path, ids["notebook"])
        answer = anyone.request(verb.upper(), target, {"name": "x"} if verb not in ("get", "delete") else None)
        if answer.status_code != 401 or "www-authenticate" not in answer.headers:
            wrong.append((verb, target, answer.status_code))
    assert not wrong, wrong


def test_what_needs_no_token_is_a_short_list(routes, anyone):
    free = {path for verb, path, operation in routes if is_free(operation)}
    assert free <= OPEN | {"/events"}, sorted(free - OPEN)
    anyone.get("/events?ch=workspaces", expect=401)      # a ticket will do as well


def test_calls_over_a_socket_know_the_same_walls(routes, possessions, ann):
    _, ids = possessions
    live = ann.another_live()
    for method, kind in (("workspaces.get", "workspace"), ("notebooks.get", "notebook"),
                         ("notebooks.export", "notebook"), ("executions.get", "execution"),
                         ("organizations.get", "organisation"), ("workspaces.delete", "workspace"),
                         ("notebooks.delete", "notebook"), ("api_keys.delete", "api key"),
                         ("organizations.delete", "organisation"), ("workspaces.members", "workspace")):
        with pytest.raises(LiveError) as refused:
            live.call(method, {"id": ids[kind]})
        assert refused.value.code == "NOT_FOUND", (method, refused.value.error)
    for method in ("users.list", "audit.list"):
        with pytest.raises(LiveError) as refused:
            live.call(method)
        assert refused.value.code == "FORBIDDEN"
    live.close()


INSIDE = ("identity.check", "identity.grants", "identity.revocations", "identity.token", "identity.find",
          "identity.grant", "identity.ungrant", "executions.start", "platform.live.read",
          "platform.live.snapshot", "identity.live.read", "identity.stats", "kernels.stats", "broker.stats",
          "broker.directory", "broker.peers")


@pytest.mark.parametrize("method", INSIDE)
def test_inside_methods_stay_inside(ann, possessions, method):
    bob, _ = possessions
    live = ann.another_live()
    params = {"user": bob.id, "email": bob.user["email"], "ch": f"user:{bob.id}/workspaces", "from": 0,
              "limit": 10, "audience": f"user:{bob.id}"}
    for body in (None, params):
        with pytest.raises(LiveError) as refused:
            live.call(method, params, body)
        assert refused.value.code in ("NOT_FOUND", "FORBIDDEN"), refused.value.error
    live.close()


def test_channels_of_bob(possessions, ann):
    bob, ids = possessions
    live = ann.another_live()
    for channel in (f"user:{bob.id}/workspaces", f"user:{bob.id}/notebooks", f"user:{bob.id}/profile",
                    f"user:{bob.id}/executions", f"user:{bob.id}/executions/{ids['execution']}",
                    f"project:{ids['workspace']}/notebooks", f"project:{ids['workspace']}/workspaces",
                    f"org:{ids['organisation']}/workspaces", f"user:{bob.id.upper()}/workspaces",
                    "sys/identity", f"user:{ann.id}/../{bob.id}/workspaces"):
        for off in (None, 0):
            with pytest.raises(LiveError) as refused:
                live.subscribe(channel, off=off)
            assert refused.value.code in ("NOT_FOUND", "INVALID"), (channel, refused.value.error)
        with pytest.raises(LiveError):
            live.ask("presence", {"ch": channel})
        assert told_by_event(ann, channel) in ("NOT_FOUND", "INVALID"), channel
    live.close()


def told_by_event(user, channel):
    """The code of the error that a stream of events begins with."""
    with user.http.stream("GET", "/events", params={"ch": channel},
                          headers={"Authorization": f"Bearer {user.token}"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                return json.loads(line[6:])["error"]["code"]
    return None


#  What each parameter of a path names. A route that is not listed here fails below: whoever adds one says
#  what of Bob's fits.
NAMED = {"/workspaces/{id}": "workspace", "/workspaces/{id}/members/{user}": "member",
         "/workspaces/{id}/members/{member}": "member", "/workspaces/{workspace_id}": "workspace",
         "/notebooks/{id}": "notebook", "/executions/{id}": "execution", "/kernels/{notebook_id}": "notebook",
         "/organizations/{id}": "organisation", "/organizations/{id}/members/{user}": "user",
         "/organizations/{id}/members/{member}": "user", "/users/{user}": "user", "/users/{id}": "user", "/admin/users/{user}": "user",
         "/api-keys/{id}": "api key", "/audit/{id}": "nothing"}


def prefixes(path):
    """[(part, address up to it, without the roots that are aliases)]."""
    known = []
    for part in path.split("/"):
        known.append(part)
        prefix = "/".join(known)
        for root in ("/api/v1/", "/api/"):
            prefix = "/" + prefix.removeprefix(root).lstrip("/")
        yield part, prefix


def test_it_is_known_what_every_parameter_names(routes):
    unknown = {prefix for _, path, _ in routes if not path.startswith("/app")
               for part, prefix in prefixes(path) if part.startswith("{") and prefix not in NAMED}
    assert not unknown, f"say in NAMED what they are: {sorted(unknown)}"


def placed(path, ids):
    """The path with what is Bob's in every place, and the same with ids that nobody has."""
    own, none = [], []
    for part, prefix in prefixes(path):
        own.append(ids[NAMED[prefix]] if part.startswith("{") else part)
        none.append(str(uuid.uuid4()) if part.startswith("{") else part)
    return "/".join(own), "/".join(none)


def seen(answer, address):
    """All that tells one answer from another, but for what differs always."""
    headers = {name: value for name, value in answer.headers.items()
               if name not in ("x-request-id", "traceparent", "date", "content-length", "connection")}
    body = answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
    if isinstance(body, dict):
        body.pop("request_id", None)
    text = json.dumps(body)
    for part in address.split("/"):
        if len(part) == 36:
            text = text.replace(part, "*")
    return answer.status_code, headers, text


@pytest.fixture(scope="module")
def keys(ann):
    """Ann by her API key."""
    key = ann.post("/api-keys", {"name": "walls"}, expect=201)
    value = max((value for value in key.values() if isinstance(value, str) and value.startswith("bb_")), key=len)
    User(ann.base, value).get("/workspaces")
    return value


@pytest.mark.parametrize("how", ["token", "key"])
def test_what_is_bobs_looks_like_what_nobody_has(routes, possessions, ann, keys, stack, how):
    """Status, headers and text: nothing tells that it exists."""
    bob, ids = possessions
    asker = ann if how == "token" else User(stack.base, keys)
    before, wrong, asked = state(bob, ids), [], 0
    for verb, path, operation in routes:
        if "{" not in path or path.startswith("/app"):
            continue
        own, none = placed(path, ids)
        for one, other in zip(answers(asker, verb, own, operation), answers(asker, verb, none, operation)):
            asked += 1
            if seen(one, own) != seen(other, none):
                wrong.append((verb, own, seen(one, own), seen(other, none)))
    assert not wrong, f"{len(wrong)} of {asked}: {wrong[:4]}"
    assert asked > 60
    assert state(bob, ids) == before


def test_ids_in_bodies_are_walled_as_well(routes, possessions, ann):
    """A field that names a parent: Bob's is refused as one that nobody has, and nothing is made."""
    bob, ids = possessions
    kinds = {"workspace_id": "workspace", "notebook_id": "notebook", "notebookId": "notebook", "user_id": "user",
             "organization_id": "organisation"}
    before, asked = state(bob, ids), 0
    for verb, path, operation in routes:
        if verb not in ("post", "put", "patch") or "{" in path:
            continue
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        fields = content.get("schema", {}).get("properties", {})
        for name in set(kinds) & set(fields):
            heard = []
            for value in (ids[kinds[name]], str(uuid.uuid4())):
                body = {"name": "walls", "code": "1", "language": "python", "cellId": None, name: value}
                answer = ann.request(verb.upper(), path, body)
                heard.append((answer.status_code, seen(answer, f"/{value}")[2].replace(value, "*")))
            asked += 1
            assert heard[0] == heard[1] or (name == "user_id" and heard[0][0] < 300), (verb, path, name, heard)
            assert heard[0][0] in (400, 403, 404) or name == "user_id", (verb, path, name, heard)
    assert asked >= 2
    assert state(bob, ids) == before
