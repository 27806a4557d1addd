"""Every route with a parameter, asked by everybody with what is Bob's: as if it were not there. Generated
from what the system says of itself; tenants_world.py says who may what."""

import json
import re
import uuid

import httpx
import pytest

from client import LiveError, User
from kernel_world import Notebook
from tenants_world import AUTHS, DEAD, FREE, LIVING, WALLS, Asker, Wall, World, named, placed, unknown

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
    flow = {"nodes": [{"id": "a", "type": "wait", "seconds": 0}], "edges": []}
    pipeline = bob.post("/pipelines", {"name": "p", "pipeline_graph": flow}, expect=201)
    deployment = bob.post(f"/pipelines/{pipeline['id']}/deploy", {}, expect=201)
    etl = bob.post("/etl-pipelines", {"name": "e"}, expect=201)
    repository = bob.post("/repositories", {"name": "r", "url": "https://git.example.org/r.git"}, expect=201)
    cluster = bob.post("/compute-clusters", {"name": "c", "compute_type": "dask"}, expect=201)
    profile = bob.post("/cloud-profiles", {"name": "p", "provider": "aws", "region": "eu-central-1"},
                       expect=201)
    job = bob.post("/jobs", {"name": "j", "job_type": "sql", "config": {"query": "SELECT 1"},
                             "schedule": "0 0 1 1 *"}, expect=201)
    run = bob.post(f"/jobs/{job['id']}/run", None, expect=201)
    assert bob.get(f"/job-runs/{run['id']}?wait=60", timeout=80)["status"] == "success"
    source = bob.post("/data-sources", {"name": "s", "source_type": "postgresql", "connection_config": {
        "host": "db.example.org", "database": "d", "user": "u", "password": "p"}}, expect=201)
    catalog = bob.post("/data-catalog", {"name": "c", "catalog_type": "table"}, expect=201)
    query = bob.post("/queries", {"name": "q", "query_text": "SELECT 1"}, expect=201)
    saved = bob.post("/saved-queries", {"name": "q", "query_text": "SELECT 1"}, expect=201)
    statement = bob.post("/queries/execute", {"query": "CREATE TABLE bobs_secrets (n int)"})
    assert statement["success"], statement
    database = bob.get("/data-catalog/databases")[0]["name"]
    organisation = bob.post("/organizations", {"name": "o"}, expect=201)
    bob.post(f"/workspaces/{notebook.workspace}/members", {"email": friend.user["email"]}, expect=201)
    return bob, {"workspace": notebook.workspace, "notebook": notebook.id, "execution": execution,
                 "cluster": cluster["id"], "cloud profile": profile["id"],
                 "api key": key["id"], "repository": repository["id"],
                 "pipeline": pipeline["id"], "deployment": deployment["id"], "etl pipeline": etl["id"],
                 "job": job["id"], "run": run["id"], "data source": source["id"], "catalog": catalog["id"],
                 "query": query["id"], "saved query": saved["id"], "statement": statement["statement_id"],
                 "database": database, "table": "bobs_secrets",
                 "organisation": organisation["id"], "user": bob.id,
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


#  What else than these names the same.
MORE = {("organisation",): ("personal organisation",), ("user",): ("account",)}


def test_what_is_bobs_is_not_there_for_ann(routes, possessions, ann):
    bob, ids = possessions
    before, asker = state(bob, ids), Asker(ann.base, ann.token)
    wrong, asked = [], 0
    for verb, path, operation in routes:
        if "{" not in path or path.startswith("/app"):
            continue
        for kind, value in ids.items():
            for target in {fill(path, value), fill(path, value, ids["member"]), fill(path, value, ann.id)}:
                for body in (None,) if verb in ("get", "delete") else BODIES:
                    answer = asker.ask(verb, target, body)
                    asked += 1
                    role_route = answer.status == 403 and ("/users/" in path or "/admin/" in path)
                    #  A wrong body may be refused before anybody looks for the row.
                    checked = answer.status == 400 and answer.json()["details"]
                    if not (answer.status == 404 or role_route or checked):
                        wrong.append((verb, target, kind, answer))
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
            bob.get(f"/executions/{ids['execution']}")["state"],
            [bob.get(path) for path in ("/queries", "/saved-queries", "/data-sources", "/data-catalog", "/jobs",
                                        "/job-runs", "/pipelines", "/etl-pipelines", "/cloud-profiles")],
            #  What goes on by itself.
            [[row["name"] for row in bob.get(path)] for path in ("/compute-clusters", "/repositories")],
            bob.get("/data-catalog/databases"), bob.get(f"/statements/{ids['statement']}")["state"]]


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
                    answer = ann.request("GET", f"{path}{needed(operation) or '?'}&{parameter['name']}={value}")
                    assert answer.status_code in (200, 403, 404), (path, answer.text)
                    if answer.status_code == 200:
                        assert answer.json() == [], (path, parameter["name"])


@pytest.mark.parametrize("what", ["schema", "preview", "lineage"])
def test_tables_named_in_a_query_are_ones_own(possessions, ann, what):
    bob, ids = possessions
    path = f"/data-catalog/{what}?database={ids['database']}&table={ids['table']}"
    bob.get(path)
    assert ann.get(path, expect=404)["details"] == {}


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


@pytest.fixture(scope="module")
def declared(operator):
    """{method: what its actor says who may}: `user` where it says nothing."""
    return {route["method"]: (route.get("auth") or "user", route.get("roles"))
            for entry in operator.call("broker.directory")["entries"] for route in entry.get("routes") or ()}


def method_of(operation):
    """An alias is the method and a number."""
    return re.sub(r"_\d+$", "", operation["operationId"])


@pytest.fixture(scope="module")
def world(stack, sign_up, possessions):
    bob, ids = possessions
    return World(stack, sign_up, bob, ids)


def test_every_route_has_an_expectation(routes, declared):
    """Whoever adds a route says in WALLS what of Bob's fits and who may; for a new kind of access, in AUTHS."""
    met = set()
    for verb, path, operation in routes:
        if "operationId" not in operation:
            assert "{" not in path and path in OPEN | {"/events"}, f"{path} is nobody's"
            continue
        method = method_of(operation)
        auth, roles = declared[method]
        assert auth in (*AUTHS, *FREE) and not roles, f"say in AUTHS who may: {path} is {auth} {roles}"
        assert is_free(operation) == (auth in FREE), f"{path} says it is {auth}"
        if "{" in path:
            assert auth not in FREE and method in WALLS, f"say in WALLS what {verb} {path} names"
            names = [part for part in path.split("/") if part.startswith("{")]
            assert len(names) <= len(WALLS[method].names), f"WALLS: {verb} {path} names {names}"
            met.add(method)
    assert met == set(WALLS), f"nothing announces {set(WALLS) - met}"


def cells(routes, declared):
    """(verb, path, method, its wall, who is refused for the role alone) of every route with a parameter."""
    for verb, path, operation in routes:
        if "{" in path and "operationId" in operation:
            method = method_of(operation)
            yield verb, path, method, WALLS[method], AUTHS[declared[method][0]]


@pytest.mark.parametrize("who", LIVING)
def test_each_role_at_what_is_bobs(world, routes, declared, who):
    """What another has looks like what nobody has, to the byte. Who may see that it is there may still be
    refused for the role (403); a role that may nothing here hears so whatever the id."""
    asker, standing, before, wrong, asked = world.living[who], LIVING[who], state(world.bob, world.ids), [], 0
    for verb, path, method, wall, refused in cells(routes, declared):
        for kinds in [named(wall, path), *([kind] for kind in MORE.get(wall.names, ()))]:
            own, none = placed(path, world.ids, kinds)
            allowed = None if kinds == ["personal organisation"] else wall.others.get(standing)
            nowhere = asker.ask(verb, none, world.body(wall))
            wanted = 403 if standing in refused else 404
            asked += 1
            if nowhere.status != wanted:
                wrong.append((verb, none, wanted, nowhere))
            if allowed and allowed < 300:
                continue                         # done to somebody else below
            key = str(uuid.uuid4())
            there = asker.ask(verb, own, world.body(wall), key)
            if asker.ask(verb, own, world.body(wall), key) != there:
                wrong.append((verb, own, "refused once, and again with the same key", there))
            if (there.status != allowed) if allowed else (there != nowhere):
                wrong.append((verb, own, allowed or "the same", there, nowhere))
    assert not wrong, f"{len(wrong)} of {asked}: {wrong[:4]}"
    assert asked > 40
    assert state(world.bob, world.ids) == before


@pytest.mark.parametrize("who", [who for who, standing in LIVING.items() if standing != "stranger"])
def test_who_may_does(world, routes, declared, who):
    """The walls are no walls for everybody: what the table allows is done to somebody else's."""
    asker, standing, wrong, ids = world.living[who], LIVING[who], [], None
    for verb, path, method, wall, _ in cells(routes, declared):
        if wall.others.get(standing, 403) < 300:
            ids = ids or world.victim(asker, standing)
            answer = asker.ask(verb, placed(path, ids, named(wall, path))[0], world.body(wall))
            if answer.status != wall.others[standing]:
                wrong.append((verb, path, answer))
            if verb == "delete":
                ids = None
    assert not wrong, wrong


def test_an_officer_sees_a_superuser_but_changes_nothing(world, routes, declared):
    officer, root = world.living["officer"], {**world.ids, "user": world.root.user["id"]}
    before = world.root.get("/auth/me")
    for verb, path, method, wall, _ in cells(routes, declared):
        if method.startswith("users."):
            wanted = 200 if method == "users.get" else 403
            answer = officer.ask(verb, placed(path, root, named(wall, path))[0], world.body(wall))
            assert answer.status == wanted, (verb, path, answer)
    for role in ("admin", "super_admin"):
        for name in (world.bob.id, world.bystander.id):
            assert officer.ask("put", f"/admin/users/{name}/role", {"role": role}).status == 403
            assert officer.ask("put", f"/users/{name}", {"role": role}).status == 403
    assert {**world.root.get("/auth/me"), "active_sessions_count": 0} == {**before, "active_sessions_count": 0}


def test_who_is_no_member_is_nobody(world):
    """Who may remove members hears the same of users who are none and of ids that nobody has; who may not
    is refused whoever it is. The owner stays."""
    members = f"/organizations/{world.ids['organisation']}/members/"
    there, none = world.bystander.id, str(uuid.uuid4())
    for asker in (Asker(world.stack.base, world.bob.token), world.living["org admin"]):
        heard = [asker.ask("delete", members + name, key=str(uuid.uuid4())) for name in (there, none)]
        assert heard[0] == heard[1] and heard[0].status == 404, heard
        assert asker.ask("delete", members + world.bob.id).status == 403
    viewer = world.living["org viewer"]
    heard = [viewer.ask("delete", members + name) for name in (there, none, world.ids["member"])]
    assert heard[0] == heard[1] == heard[2] and heard[0].status == 403, heard


def needed(operation):
    """The parameters behind the path that must be there."""
    names = [parameter["name"] for parameter in operation.get("parameters", ())
             if parameter["in"] == "query" and parameter.get("required")]
    return "?" + "&".join(f"{name}=a" for name in names) if names else ""


@pytest.mark.parametrize("who", LIVING)
def test_routes_without_a_parameter_know_roles_only(world, routes, declared, who):
    """And nothing of Bob's is in what they answer to a stranger."""
    asker, standing, wrong = world.living[who], LIVING[who], []
    for verb, path, operation in routes:
        if "{" in path or is_free(operation) or "operationId" not in operation:
            continue
        refused = standing in AUTHS[declared[method_of(operation)][0]]
        if verb != "get" and not refused:
            continue
        answer = asker.ask(verb, path + needed(operation), None if verb == "get" else {})
        #  What a query has to name is not there.
        if answer.status not in ((403,) if refused else (200, 404) if "table=" in needed(operation) else (200,)):
            wrong.append((verb, path, answer))
        if standing == "stranger":
            wrong += [(path, kind) for kind, value in world.ids.items() if value.encode() in answer.body]
    assert not wrong, wrong


@pytest.mark.parametrize("who", DEAD)
def test_what_is_over_opens_nothing(world, routes, who):
    """No route that asks for a token, no stream and no socket, and the ids make no difference."""
    asker, wrong = world.dying(who), []
    for verb, path, operation in routes:
        if is_free(operation) or "operationId" not in operation:
            continue
        wall = WALLS.get(method_of(operation), Wall(()))
        body = world.body(wall) if wall.names else None if verb in ("get", "delete") else {}
        there, nowhere = (asker.ask(verb, target, body) for target in placed(path, world.ids, named(wall, path)))
        if there.status != 401 or "www-authenticate" not in dict(there.headers) or there != nowhere:
            wrong.append((verb, path, there, nowhere))
    assert not wrong, wrong[:4]
    for channel in ("workspaces", f"user:{world.bob.id}/workspaces"):
        assert asker.ask("get", f"/events?ch={channel}").status == 401
    assert asker.ask("post", "/auth/refresh", {}).status in (400, 401)
    live = None
    if asker.credential:
        with pytest.raises(LiveError) as refused:
            live = User(world.stack.base, asker.credential).another_live()
        assert refused.value.error.get("close_code") == 3500, (live, refused.value.error)
    if who in world.refresh:
        answer = asker.ask("post", "/auth/refresh", {"refresh_token": world.refresh[who]})
        assert answer.status == 401, answer
        assert Asker(world.stack.base, world.refresh[who]).ask("post", "/auth/refresh").status == 401


def test_a_ticket_is_no_token(world, routes):
    """It comes in addresses: it opens a stream or a socket, and nothing that lasts."""
    user = world.members["org admin"]
    for verb, path, operation in routes:
        if verb != "get" and path not in ("/api-keys", "/live/ticket", "/auth/logout-all") \
                or "{" in path or is_free(operation) or "operationId" not in operation:
            continue
        ticket = user.post("/live/ticket", expect=201)["ticket"]
        for header in ("Authorization", "X-API-Key"):
            answer = Asker(world.stack.base, ticket, header).ask(verb, path)
            assert answer.status == 401, (verb, path, header, answer)
        assert Asker(world.stack.base).ask(verb, f"{path}?ticket={ticket}").status == 401


SOCKETS = ("plain user", "key", "org viewer", "org admin", "officer", "superuser")


@pytest.mark.parametrize("who", SOCKETS)
def test_each_role_at_what_is_bobs_over_a_socket(world, routes, declared, who):
    live, standing, before = User(world.stack.base, world.living[who].credential).another_live(), LIVING[who], \
        state(world.bob, world.ids)
    for _, path, method, wall, refused in cells(routes, declared):
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        allowed, heard = wall.others.get(standing), []
        for ids in (world.ids, None):
            if ids and allowed and allowed < 300:
                continue
            params = {name: ids[kind] if ids else unknown(kind) for name, kind in zip(names, named(wall, path))}
            with pytest.raises(LiveError) as error:
                live.call(method, params, world.body(wall))
            heard.append({**error.value.error, "request_id": None})
        code = "FORBIDDEN" if standing in refused else "NOT_FOUND"
        assert heard[-1]["code"] == code, (method, heard)
        if allowed == 403:
            assert heard[0]["code"] == "FORBIDDEN", (method, heard)
        else:
            assert heard[0] == heard[-1], (method, heard)
    live.close()
    assert state(world.bob, world.ids) == before


KINDS = {"workspace_id": "workspace", "notebook_id": "notebook", "notebookId": "notebook", "user_id": "user",
         "organization_id": "organisation", "cluster_id": "cluster", "cloud_profile_id": "cloud profile",
         "source_id": "data source", "data_source_id": "data source", "pipeline_id": "pipeline",
         "repository_id": "repository", "job_id": "job"}


def filled(schema):
    """A body in which nothing is missing."""
    properties = schema.get("properties", {})
    values = {name: properties[name].get("enum", ["walls"])[0] for name in schema.get("required", ())}
    return {**values, **{name: "SELECT 1" for name in ("code", "query") if name in properties}}


def fields_of(routes):
    """(verb, path, body, field, kind) of every field of a body that names something by its id."""
    for verb, path, operation in routes:
        if verb not in ("post", "put", "patch") or "{" in path.replace("/notebooks/{id}", ""):
            continue
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        kinds = {"id": "data source"} if path == "/data-sources/test" else KINDS
        for name in sorted(set(kinds) & set(schema.get("properties", {}))):
            yield verb, path, {**filled(schema), "name": "walls"}, name, kinds[name]


@pytest.mark.parametrize("who", LIVING)
def test_ids_in_bodies_are_walled_as_well(world, routes, who):
    """A field that names a parent: Bob's is refused as one that nobody has, and nothing is made."""
    before, asker, asked, wrong = state(world.bob, world.ids), world.living[who], 0, []
    mine = asker.ask("post", "/notebooks", {"name": "mine"}).json()["id"]
    for verb, path, body, name, kind in fields_of(routes):
        own, none = (asker.ask(verb, path.replace("{id}", mine), {**body, name: value})
                     for value in (world.ids[kind], str(uuid.uuid4())))
        asked += 1
        if own != none or own.status != 404:
            wrong.append((verb, path, name, own, none))
    assert not wrong, f"{len(wrong)} of {asked}: {wrong}"
    assert asked >= 15
    assert state(world.bob, world.ids) == before


#  In this order, as one goes with the other.
ENDS = ("repositories", "etl_pipelines", "pipelines", "jobs", "statements", "queries", "saved_queries",
        "data_catalogs", "data_sources", "compute_clusters", "cloud_profiles", "api_keys", "kernels",
        "executions", "notebooks", "workspaces", "organizations")


#  Bob's execution and his run are over by now, his repository was never fetched, his cluster never started,
#  and there is nothing before what is deployed.
TOO_LATE_OR_EARLY = ("pipelines.rollback", "deployments.rollback", "compute_clusters.restart",
                     "compute_clusters.resize", "job_runs.cancel", "job_runs.repair",
                     "executions.interrupt", "executions.input", "repositories.files",
                     "repositories.content", "repositories.import")


def test_the_owner_comes_through(world, routes, declared):
    """With the same addresses and bodies: what others were refused is nothing but whose it is."""
    bob, ids, ends, wrong = Asker(world.stack.base, world.bob.token), world.ids, [], []
    found = [cell for cell in cells(routes, declared) if not cell[2].startswith("users.")]
    for verb, path, method, wall, _ in sorted(found, key=lambda cell: (
            cell[0] == "delete" and ENDS.index(cell[2].split(".")[0]) + 1, -len(cell[1]))):
        answer = bob.ask(verb, placed(path, ids, named(wall, path))[0], world.body(wall))
        if answer.status != 409 if method in TOO_LATE_OR_EARLY else answer.status >= 300:
            wrong.append((verb, path, answer.status, answer.body))
    assert not wrong, f"{wrong}"
