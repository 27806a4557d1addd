"""Busbar from Python: call, stream, subscribe, and serve.

    with busbar.Client() as bus:
        print(bus.call("hello.greet", {"name": "Ann"}))

    actor = busbar.Actor("hello")

    @actor.route("GET", "/hello/:name", auth="none")
    def greet(request):
        return {"text": f"hello, {request['name']}"}

    actor.run()
"""

from .actor import Actor, Request
from .client import Client
from .errors import BusError, Fail, Refused
from .live import Event, Gap, Subscription

__all__ = ["Actor", "BusError", "Client", "Event", "Fail", "Gap", "Refused", "Request",
           "Subscription"]
__version__ = "0.1.0"
