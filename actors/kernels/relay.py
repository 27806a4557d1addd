"""Before a kernel: give its box a port that leads to a cluster.

    relay.py CONTROL PORT COMMAND …

Listens on the loopback of the box and becomes COMMAND; what is left of this relays. For every
connection one byte is sent on CONTROL, and the answer carries a descriptor: a connection to the
scheduler, made outside where that is allowed. None comes when there is no scheduler.
"""

import array
import os
import selectors
import signal
import socket
import sys
import threading

PIECE = 262144


def pump(source, target):
    """All bytes of one direction, then its end."""
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            try:
                end.shutdown(how)
            except OSError:
                pass


def outside(control):
    """A connection to the scheduler, or None."""
    room = array.array("i")
    control.send(b"?")
    data, extra, _, _ = control.recvmsg(1, socket.CMSG_SPACE(room.itemsize))
    if not data:
        os._exit(0)
    for _, _, packed in extra:
        room.frombytes(packed[:room.itemsize])
    if not room:
        return None
    made = socket.socket(fileno=room[0])
    made.setblocking(True)
    return made


def serve(listener, control):
    """One connection after the other is opened; the bytes have threads of their own."""
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(control, selectors.EVENT_READ)
    while True:
        if any(key.fileobj is control for key, _ in ready.select()):
            os._exit(0)
        inner, _ = listener.accept()
        outer = outside(control)
        if outer is None:
            inner.close()
            continue
        for pair in ((inner, outer), (outer, inner)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=64)
    if os.fork() == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.setsid()
            serve(listener, control)
        os._exit(0)
    os.wait()
    control.close()
    listener.close()
    os.execv(sys.argv[3], sys.argv[3:])


main()
