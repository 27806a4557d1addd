"""The Python package as a client under test: commands on stdin, what happens on stdout."""

import json
import sys
import threading

import busbar

OUT = threading.Lock()


def say(**line):
    with OUT:
        print(json.dumps(line), flush=True)


class Driven:
    def __init__(self, bus):
        self.bus, self.cancelled, self.calls, self.subscriptions = bus, set(), {}, {}

    def failed(self, number, error):
        if number not in self.cancelled:
            outcome = {"outcome": "unknown"} if error.unknown else {}
            say(id=number, status=error.status, body={"code": error.code, "error": error.text,
                                                      "details": error.details}, **outcome)

    def begin(self, id, method, ttl, params=None, body=None, key=""):
        self.calls[id] = self.bus.begin(method, params, body, key=key, timeout=ttl / 1000)

    def call(self, id, **_):
        try:
            status, body, _ = self.calls[id].wait()
        except busbar.BusError as error:
            self.failed(id, error)
        else:
            if id not in self.cancelled:
                say(id=id, status=status, body=body)

    def stream(self, id, method, ttl, params=None, body=None, key=""):
        size = total = 0
        try:
            chunks = self.bus.stream(method, params, body, key=key, timeout=ttl / 1000)
            for chunk in chunks:
                if id in self.cancelled:
                    return chunks.close()
                size, total = size + len(chunk), total + sum(chunk)
        except busbar.BusError as error:
            if size:
                return say(id=id, status=200, error=error.code)
            return self.failed(id, error)
        return say(id=id, status=200, size=size, sum=total % 2 ** 32)

    def subscribe(self, id, channel, epoch=None, off=None):
        subscription = self.subscriptions[channel] = self.bus.subscribe(channel, epoch, off)
        say(id=id, subscribed=channel)
        for item in subscription:
            if isinstance(item, busbar.Gap):
                say(gap={"channel": channel, "from": item.start, "to": item.end, "why": item.why})
            else:
                say(event={"channel": channel, "epoch": item.epoch, "off": item.off,
                           "type": item.type, "data": item.data})

    def unsubscribe(self, channel, **_):
        self.subscriptions.pop(channel).close()

    def cancel(self, id):
        self.cancelled.add(id)
        if id in self.calls:
            self.calls[id].cancel()


def main():
    with busbar.Client() as bus:
        driven = Driven(bus)
        say(ready=True)
        for line in sys.stdin:
            command = json.loads(line)
            do = command.pop("do")
            if do == "quit":
                break
            if do in ("cancel", "unsubscribe"):
                getattr(driven, do)(**command)
            else:
                if do == "call":        # before a word to cancel it can come
                    driven.begin(**command)
                threading.Thread(target=getattr(driven, do), kwargs=command, daemon=True).start()


if __name__ == "__main__":
    main()
