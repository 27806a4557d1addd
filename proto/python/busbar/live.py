"""Subscriptions: events in order, without duplicates, holes filled or named."""

import collections
import dataclasses
import queue
import time
import typing

from . import wire
from .bus import Call

READ_LIMIT = 300
QUEUE_FULL = 5000      # events that wait for the reader; beyond it we read the owner's log later
QUEUE_LOW = 500
CREDIT_STEP = 64       # door: events read before credit is given back
RETRY = 0.3


@dataclasses.dataclass(frozen=True)
class Event:
    channel: str
    epoch: str
    off: int
    key: str
    type: str
    at: str
    data: typing.Any


@dataclasses.dataclass(frozen=True)
class Gap:
    """Offsets `start` to `end` will not come (why: "retention", "slow", "epoch"): whoever keeps a
    copy of the state reads it anew."""

    channel: str
    epoch: str
    start: int
    end: int
    why: str


class Subscription:
    """Iterate it. `epoch` and `off` are the position after what the iterator gave: hand them to
    subscribe() later and nothing is missed."""

    def __init__(self, client, channel, epoch, off):
        self.channel = channel
        self.epoch, self.off = epoch, off
        self._client = client
        self._queue = queue.Queue()
        self._feed = Feed(client._bus, self, channel, epoch, off)
        self._taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = self.next()
        if item is None:
            raise StopIteration
        return item

    def next(self, timeout=None):
        """The next Event or Gap; None after close(). Raises TimeoutError."""
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no event on {self.channel} in {timeout} s") from None
        if isinstance(item, Exception):
            self._queue.put(item)
            raise item
        if item is None:
            self._queue.put(None)
            return None
        self.epoch = item.epoch
        self.off = item.end if isinstance(item, Gap) else item.off or self.off
        self._taken += 1
        if self._taken >= CREDIT_STEP:
            self._client._loop.post(self._feed.taken, self._taken)
            self._taken = 0
        return item

    def close(self):
        self._client._unsubscribe(self._feed)
        self._queue.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Feed:
    """The side of a subscription that lives in the loop."""

    def __init__(self, bus, subscription, channel, epoch, off):
        self.bus = bus
        self.subscription = subscription
        self.queue = subscription._queue
        self.channel = channel
        self.epoch, self.off = epoch or "", off or 0
        self.positioned = off is not None
        self.fresh = not self.positioned
        self.reading = None           # Call of live.read in flight
        self.behind = False           # there is more in the owner's log
        self.retry = 0.0
        self.early = collections.deque(maxlen=1000)   # events that came while reading
        self.active = False
        self.waiter = None            # called once it is active, or with an error

    def ask(self):
        """SUBSCRIBE, at first and whenever the broker is new."""
        self.active = False
        self.bus.broker.send(wire.SUBSCRIBE, id=id(self) & 0xFFFFFFFF, channel=self.channel,
                             epoch=self.epoch, off=self.off, resume=self.positioned)

    def told(self, error=None):
        waiter, self.waiter = self.waiter, None
        if waiter:
            waiter(error)
        elif error:
            self.queue.put(error)

    def subscribed(self, message):
        self.active = True
        if not self.bus.config.inside:
            # the broker sends what was missed; without a position we begin where it is now
            if not self.positioned and message.epoch:
                self.epoch, self.off, self.positioned = message.epoch, message.off, True
            self.told()
        elif self.bus.owner_of(self.channel):
            self.read()
        else:
            self.told()

    def event(self, message):
        if message.off == 0:
            self.deliver(message)
        elif not self.bus.config.inside:
            self.door_event(message)
        elif self.reading or self.behind or not self.active:
            self.early.append(message)
        else:
            self.in_order(message)

    def door_event(self, message):
        if message.epoch == self.epoch and self.positioned and message.off <= self.off:
            return
        self.moved(message.epoch, message.off)
        self.deliver(message)

    def in_order(self, message):
        if not self.positioned:
            self.moved(message.epoch, message.off - 1)
        if message.epoch == self.epoch and message.off <= self.off:
            return
        if message.epoch != self.epoch or message.off != self.off + 1:
            self.early.append(message)
            self.read()
        elif self.queue.qsize() >= QUEUE_FULL:
            self.behind = True
        else:
            self.moved(message.epoch, message.off)
            self.deliver(message)

    def moved(self, epoch, off):
        self.epoch, self.off, self.positioned = epoch, off, True

    def deliver(self, message):
        self.queue.put(Event(self.channel, message["epoch"], message["off"], message["key"],
                             message["type"], message["at"], message["data"]))

    def gap(self, epoch, start, end, why):
        if end >= start or why == "epoch":
            self.queue.put(Gap(self.channel, epoch, start, end, why))
        self.moved(epoch, max(end, 0))

    def taken(self, count):
        if not self.bus.config.inside:
            self.bus.broker.send(wire.CREDIT, id=0, count=count)
        elif self.behind and not self.reading and self.queue.qsize() < QUEUE_LOW:
            self.read()

    # -- inside: the owner's log

    def read(self):
        if self.reading:
            return
        owner = self.bus.owner_of(self.channel)
        if owner is None:
            return self.unread(404)
        start = self.positioned
        params = {"ch": self.channel, "epoch": self.epoch, "from": self.off if start else 0,
                  "limit": READ_LIMIT if start else 1}
        self.behind = False
        self.reading = Call(f"{owner}.live.read", params, params, self.channel.split("/")[0], 10,
                            True, None, self.was_read)
        self.bus.start(self.reading)

    def was_read(self, status, body, meta):
        self.reading = None
        if status != 200 or not isinstance(body, dict):
            return self.unread(status)
        epoch, top = body.get("epoch") or "", body.get("top") or 0
        if not self.positioned:
            first = self.early[0] if self.early else None
            if first:
                self.moved(first.epoch, first.off - 1)
            else:
                self.moved(epoch, top)
        else:
            self.take(epoch, top, body)
        self.fresh = False
        if self.active:
            self.told()
        self.catch_up()

    def take(self, epoch, top, body):
        gap = body.get("gap")
        if gap:
            self.gap(epoch, gap.get("from", self.off + 1), gap.get("to", 0),
                     gap.get("why", "retention"))
        elif epoch != self.epoch and self.epoch:
            events = body.get("events") or ()
            self.gap(epoch, 1, (events[0]["off"] - 1) if events else top, "epoch")
        for event in body.get("events") or ():
            if event.get("off", 0) <= self.off:
                continue
            if event["off"] != self.off + 1:
                self.gap(epoch, self.off + 1, event["off"] - 1, "retention")
            self.moved(epoch, event["off"])
            self.deliver({"epoch": epoch, "off": event["off"], "key": event.get("key") or "",
                          "type": event.get("type") or "", "at": event.get("at") or "",
                          "data": event.get("data")})
        if self.off < top:
            if not body.get("events") and not gap:
                self.gap(epoch, self.off + 1, top, "retention")
            else:
                self.behind = True

    def unread(self, status):
        if status == 404:
            # nobody keeps this channel: what is missing cannot be had
            if self.early and self.positioned:
                first = self.early[0]
                self.gap(first.epoch, self.off + 1, first.off - 1, "retention")
            self.told()
            self.catch_up()
        else:
            self.told()
            self.behind, self.retry = True, time.monotonic() + RETRY

    def catch_up(self):
        if self.behind:
            if self.queue.qsize() < QUEUE_FULL:
                self.read()
            return
        early, self.early = self.early, collections.deque(maxlen=self.early.maxlen)
        for message in early:
            if self.reading:
                self.early.append(message)
            else:
                self.in_order(message)

    def tick(self, now):
        if self.behind and not self.reading and now > self.retry \
                and self.queue.qsize() < QUEUE_LOW:
            self.read()
