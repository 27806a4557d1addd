"""A bare WebSocket for tests that speak the frames themselves."""

import asyncio
import inspect

import websockets

from stack import SOON

#  Version 14 gave the argument another name.
HEADERS = next(name for name in ("additional_headers", "extra_headers")
               if name in inspect.signature(websockets.connect.__init__).parameters)


class Closed(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Socket:
    """with Socket(url, "busbar.v1.json") as socket: socket.send(…); socket.recv()"""

    def __init__(self, url, subprotocol="busbar.v1.json", headers=None, **options):
        self.loop = asyncio.new_event_loop()
        if headers:
            options[HEADERS] = headers
        self.socket = self._run(self._open(url, subprotocol, options))

    async def _open(self, url, subprotocol, options):
        return await websockets.connect(url, subprotocols=[subprotocol], max_size=None, **options)

    def _run(self, awaitable, timeout=SOON):
        async def bounded():
            return await asyncio.wait_for(awaitable, timeout)
        return self.loop.run_until_complete(bounded())

    def send(self, data):
        self._run(self.socket.send(data))

    def recv(self, timeout=SOON):
        try:
            return self._run(self.socket.recv(), timeout)
        except websockets.ConnectionClosed:
            raise Closed(self.socket.close_code, self.socket.close_reason) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._run(self.socket.close())
        self.loop.close()
