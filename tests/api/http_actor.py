"""Actors behind the edge in the tests of HTTP: `shop` with a route of every kind, and an `identity` that
knows its users by heart.  http_actor.py shop|identity RUN_DIR [SLOT]"""

import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto" / "python"))

import busbar  # noqa: E402


def shop(run, slot):
    actor = busbar.Actor("shop", run, slot=slot, threads=16)
    state = {"cancelled": 0, "orders": 0, "uploads": {}}

    @actor.route("GET", "/open", auth="none", doc="Anybody")
    def open_(request):
        return {"slot": slot, "identity": request.identity, "meta": request.meta,
                "params": request.params, "key": request.key}

    @actor.route("GET", "/things/:id", auth="none", alias=["/api/things/:id", "/api/v1/things/:id"])
    def thing(request):
        if request["id"] == "missing":
            raise busbar.Fail("NOT_FOUND", "no such thing: missing", id="is not there")
        return {"id": request["id"], "params": request.params, "meta": request.meta}

    @actor.route("GET", "/things/new", auth="none")
    def thing_new(request):
        return {"literal": True}

    @actor.route("DELETE", "/things/:id", auth="none", status=204)
    def thing_delete(request):
        return None

    @actor.route("GET", "/tree/*rest", auth="none")
    def tree(request):
        return {"rest": request["rest"]}

    @actor.route("GET", "/tagged", auth="none")
    def tagged(request):
        return 200, {"a": 1}, {"etag": "v7", "headers": {"X-Shop": "yes", "X-Bad": "a\r\nX-Evil: 1"}}

    @actor.route("GET", "/big", auth="none", fields={"n": {"type": "int", "max": 10000000}})
    def big(request):
        return {"text": "abcdefghij" * (request["n"] // 10)}

    @actor.route("POST", "/echo", auth="none", alias=["PUT /echo", "PATCH /echo", "DELETE /echo"])
    def echo(request):
        return {"body": request.body, "params": request.params, "meta": request.meta}

    @actor.route("POST", "/orders", auth="none", status=201,
                 fields={"what": {"type": "text", "required": True}})
    def order(request):
        state["orders"] += 1
        return 201, {"id": state["orders"]}, {"location": f"/orders/{state['orders']}"}

    @actor.route("GET", "/orders/count", auth="none")
    def count(request):
        return {"orders": state["orders"], "cancelled": state["cancelled"]}

    @actor.route("POST", "/raw", auth="none", raw=True)
    def raw(request):
        return {"size": len(request.body), "type": type(request.body).__name__,
                "content_type": request.meta.get("content_type")}

    @actor.route("GET", "/me", auth="user")
    def me(request):
        return request.identity

    @actor.route("GET", "/admin-only", auth="admin")
    def admin_only(request):
        return {"ok": True}

    @actor.route("GET", "/super-only", auth="super")
    def super_only(request):
        return {"ok": True}

    @actor.route("GET", "/analysts", auth="user", roles="analyst|admin")
    def analysts(request):
        return {"ok": True}

    @actor.route("GET", "/maybe", auth="optional")
    def maybe(request):
        return request.identity

    @actor.route("GET", "/api/v1/tables", auth="optional", tag="tables baas")
    def tables(request):
        return request.identity

    @actor.route("POST", "/sign-in", auth="none", limit="sign_in")
    def sign_in(request):
        return {"ok": True}

    @actor.route("POST", "/sign-out", auth="user")
    def sign_out(request):
        who = request.identity
        return 200, {"ok": True}, {"revoke": {"user": who["user"], "jti": who["jti"]}}

    @actor.route("GET", "/slow", auth="none", blocking=True, timeout=2000)
    def slow(request):
        end = time.monotonic() + float(request.params.get("for", "1"))
        while time.monotonic() < end:
            if request.cancelled:
                state["cancelled"] += 1
                return None
            time.sleep(0.01)
        return {"done": True}

    @actor.route("GET", "/stream", auth="none", fields={"n": {"type": "int", "max": 100000000}})
    def stream(request):
        left = request["n"]
        while left > 0:
            size = min(left, 50000)
            yield b"x" * size
            left -= size

    @actor.route("POST", "/upload", auth="none", upload=True)
    def upload(request):
        import hashlib
        digest, size = hashlib.sha256(), 0
        for data in request.chunks():
            digest.update(data)
            size += len(data)
        return {"size": size, "sha256": digest.hexdigest(), "params": request.params,
                "meta": request.meta}

    @actor.route("POST", "/upload-slow", auth="none", upload=True)
    def upload_slow(request):
        time.sleep(1.5)
        return {"size": sum(len(data) for data in request.chunks())}

    @actor.route("GET", "/fails", auth="none")
    def fails(request):
        raise RuntimeError("secret database text")

    @actor.route("GET", "/keyed/:id", auth="none", key="param:id")
    def keyed(request):
        return {"slot": slot, "key": request.key}

    @actor.route("GET", "/text", auth="none")
    def text(request):
        return 200, "a,b\n1,2\n", {"content_type": "text/csv; charset=utf-8"}

    @actor.route("GET", "/nothing", auth="none")
    def nothing(request):
        return None

    return actor


USERS = {"ann": ("analyst", "user"), "adam": ("admin", "user"), "sue": ("super_admin", "user"),
         "vic": ("viewer", "user")}


def identity(run, slot):
    actor = busbar.Actor("identity", run, slot=slot)
    revoked = []
    import hashlib
    key = hashlib.sha256(b"bb_test_key").hexdigest()

    @actor.method("identity.check")
    def check(request):
        body = request.body or {}
        if body.get("api_key_hash") == key:
            return {"user": "ann", "role": "analyst", "kind": "key", "jti": "key-1", "org": "o1",
                    "email": "ann@example.org"}
        user, jti = body.get("user"), body.get("jti")
        if user not in USERS or jti in revoked:
            raise busbar.Fail("UNAUTHORIZED", "account is not active")
        return {"user": user, "role": USERS[user][0], "kind": "user", "jti": jti, "org": "o1",
                "email": f"{user}@example.org"}

    @actor.method("identity.revocations")
    def revocations(request):
        return {"jtis": revoked, "users": [], "epoch": actor._epoch, "off": len(revoked)}

    @actor.method("identity.revoke", fields={"jti": {"type": "text"}, "user": {"type": "text"}})
    def revoke(request):
        revoked.append(request["jti"])
        actor.event("sys/identity", "revoked.session",
                    {"user": request["user"], "jti": request["jti"]})
        return {}

    actor.channel("identity")

    def beat():
        while True:
            time.sleep(1)
            actor._post(beat_now)

    def beat_now():
        from busbar import wire
        if actor._bus and actor._bus.welcomed:
            actor._bus.broker.send(wire.EVENT, channel="sys/identity", epoch=actor._epoch,
                                   off=len(revoked), type="beat", key="", at="", data=None)

    threading.Thread(target=beat, daemon=True).start()
    return actor


if __name__ == "__main__":
    make = {"shop": shop, "identity": identity}[sys.argv[1]]
    slot = sys.argv[3] if len(sys.argv) > 3 else sys.argv[1] + ".1"
    make(sys.argv[2], slot).run()
