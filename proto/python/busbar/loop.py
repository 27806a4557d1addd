"""A poll loop, and connections of it: DEALERs that say HELLO whenever they are connected."""

import collections
import logging
import os
import time
import traceback

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import wire

log = logging.getLogger("busbar")

HWM = 10000
_EVENTS = (zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
           | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
           | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_FAILED = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
           zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)


def options(socket):
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = HWM
    socket.maxmsgsize = wire.FRAME_MAX + (1 << 20)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)


def deliver(frame, handle):
    """The messages of a frame, one by one. False: it ended malformed; what came before that holds."""
    try:
        for message in wire.unpack(frame):
            try:
                handle(message)
            except Exception:
                # whatever somebody says must not end the loop that serves everybody else
                log.warning("message dropped\n%s", traceback.format_exc())
    except ValueError as error:
        log.warning("malformed frame: %s", error)
        return False
    return True


class Loop:
    """Sockets and their callbacks, timers by polling, and functions posted by other threads."""

    def __init__(self):
        self.context = zmq.Context()
        self._poller = zmq.Poller()
        self._readers = {}
        self._posted = collections.deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller.register(self._wake, zmq.POLLIN)
        self.dirty = set()

    def watch(self, socket, reader):
        self._readers[socket] = reader
        self._poller.register(socket, zmq.POLLIN)

    def forget(self, socket):
        if self._readers.pop(socket, None):
            self._poller.unregister(socket)

    def post(self, function, *arguments):
        """From any thread: call it in the loop, in order of posting."""
        self._posted.append((function, arguments))
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            pass  # closed: nobody is there to be woken

    def turn(self, seconds):
        self._flush()
        for socket, _ in self._poller.poll(max(0, int(seconds * 1000))):
            if socket == self._wake:
                try:
                    os.eventfd_read(self._wake)
                except BlockingIOError:
                    pass
            elif socket in self._readers:
                self._readers[socket]()
        for _ in range(len(self._posted)):      # what is posted meanwhile waits for the next turn
            function, arguments = self._posted.popleft()
            try:
                function(*arguments)
            except Exception:
                log.error("%s failed\n%s", function, traceback.format_exc())
        self._flush()

    def _flush(self):
        while self.dirty:
            self.dirty.pop().flush()

    def close(self):
        os.close(self._wake)
        self.context.destroy(linger=0)


class Link:
    """A DEALER to a broker or an actor. Messages of a turn leave as one frame; `up` tells whether
    the other end is connected. Callbacks: on_up(), on_down(why), on_message(message)."""

    def __init__(self, loop, endpoint, config=None):
        self.loop = loop
        self.endpoint = endpoint
        self.config = config
        self.up = False
        self.heard = self.sent = 0.0
        self.malformed = 0
        self._frames = collections.deque()
        self._open = bytearray()
        self.socket = None
        self._connect()

    def _connect(self):
        self.socket = socket = self.loop.context.socket(zmq.DEALER)
        options(socket)
        # What a broker that went does not take, the next one must not get. With an actor it would
        # cost answers: IMMEDIATE drops what arrived together with the end of a connection.
        socket.setsockopt(zmq.IMMEDIATE, self.config is not None)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self.config and not self.config.inside:
            socket.curve_publickey = self.config.public.encode()
            socket.curve_secretkey = self.config.secret.encode()
            socket.curve_serverkey = self.config.server.encode()
        self._monitor = socket.get_monitor_socket(_EVENTS)
        self.loop.watch(self._monitor, self._watch)
        self.loop.watch(socket, self._read)
        socket.connect(self.endpoint)

    def _disconnect(self):
        self.loop.forget(self.socket)
        self.loop.forget(self._monitor)
        self.socket.disable_monitor()
        self.socket.close(0)
        self.socket = None

    def again(self, why):
        """Give this connection up and make a new one."""
        self._disconnect()
        was, self.up = self.up, False
        self._frames.clear()
        self._open.clear()
        if was:
            self.on_down(why)
        self._connect()

    def close(self):
        if self.socket:
            self._disconnect()
            self.up = False

    def drain(self):
        """Hear what the other end said before it went."""
        while self._read():
            pass

    def _watch(self):
        while self.socket and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = True
                self.heard = time.monotonic()
                self.on_up()
            elif event in _FAILED:
                self.on_rejected(event == zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            elif self.up:
                self.drain()
                self.up = False
                self._frames.clear()
                self._open.clear()
                self.on_down("connection ended")

    def _read(self):
        """True: there may be more."""
        for _ in range(1000):
            if not self.socket:
                return False
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.heard = time.monotonic()
            if len(parts) != 1:
                self.malformed += 1
                continue
            if not deliver(parts[0], self.on_message):
                self.malformed += 1
        return True

    def send(self, number, **fields):
        data = wire.pack(number, **fields)
        if len(self._open) + len(data) > wire.CHUNK_MAX and self._open:
            self._frames.append(bytes(self._open))
            self._open.clear()
        self._open += data
        self.loop.dirty.add(self)

    def flush(self):
        """What could not be sent stays; the owner calls flush() again in its tick."""
        if self._open:
            self._frames.append(bytes(self._open))
            self._open.clear()
        while self._frames and self.up and self.socket:
            try:
                self.socket.send(self._frames[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._frames.popleft()
            self.sent = time.monotonic()

    def on_up(self):
        pass

    def on_down(self, why):
        pass

    def on_rejected(self, key):
        pass

    def on_message(self, message):
        pass
