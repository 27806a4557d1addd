#!/usr/bin/python3
"""An actor in a few lines: REST, WebSocket, OpenAPI, validation and metrics come with it.

    BUSBAR_RUN=var/run PYTHONPATH=proto/python /usr/bin/python3 tools/examples/hello_actor.py
    curl localhost:8000/hello/Ann
    curl localhost:8000/hello/sum -d '{"numbers": [1, 2.5]}'
"""

import busbar

actor = busbar.Actor("hello")
actor.channel("greetings")


@actor.route("GET", "/hello/:name", auth="none",
             fields={"name": {"type": "text", "min": 1, "max": 64, "required": True}},
             out={"text": "text"}, doc="Greet somebody")
def greet(request):
    actor.event("org:hello/greetings", "hello.greeted", {"name": request["name"]})
    return {"text": f"hello, {request['name']}"}


@actor.route("POST", "/hello/sum", auth="none", idempotent=True,
             fields={"numbers": {"type": "array", "required": True, "max": 1000}},
             out={"sum": "real"}, doc="Add numbers")
def sum_up(request):
    for at, number in enumerate(request["numbers"]):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise busbar.Fail("INVALID", f"numbers[{at}] must be a number",
                              numbers=f"entry {at} must be a number")
    return {"sum": sum(request["numbers"])}


if __name__ == "__main__":
    actor.run()
