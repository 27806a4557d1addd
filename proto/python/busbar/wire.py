"""The messages of the bus (PROTOCOL.md, wire.def): numbers, fields, frames."""

import datetime
import decimal
import json
import uuid

import msgpack

VERSION = 1
FRAME_MAX = 16 * 1024 * 1024
CHUNK_MAX = 64 * 1024
RELAY_ID = 1 << 62  # ids given by the broker have this bit

HELLO, WELCOME, REFUSED, DIRECTORY, CLAIM, CALL, REPLY, CHUNK, CREDIT, CANCEL = range(1, 11)
SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, EVENT, GAP, PING, PONG, GOODBYE = range(11, 19)

# name and empty value of every field, in order
FIELDS = {
    HELLO: (("version", VERSION), ("role", ""), ("name", ""), ("slot", ""), ("boot", ""),
            ("endpoint", ""), ("credit", 0), ("routes", None), ("claims", None),
            ("channels", None), ("dependants", None), ("pid", 0), ("token", "")),
    WELCOME: (("version", VERSION), ("boot", ""), ("heartbeat", 0), ("credit", 0), ("client", "")),
    REFUSED: (("code", ""), ("text", "")),
    DIRECTORY: (("revision", 0), ("whole", False), ("entries", None)),
    CLAIM: (("name", ""), ("slot", ""), ("boot", ""), ("keys", None), ("release", False)),
    CALL: (("id", 0), ("method", ""), ("key", ""), ("ttl", 0), ("trace", ""), ("identity", None),
           ("params", None), ("body", None), ("meta", None)),
    REPLY: (("id", 0), ("status", 0), ("body", None), ("meta", None), ("load", 0)),
    CHUNK: (("id", 0), ("data", b""), ("last", False), ("error", "")),
    CREDIT: (("id", 0), ("count", 0)),
    CANCEL: (("id", 0),),
    SUBSCRIBE: (("id", 0), ("channel", ""), ("epoch", ""), ("off", 0), ("resume", False)),
    SUBSCRIBED: (("id", 0), ("channel", ""), ("code", ""), ("text", ""), ("epoch", ""),
                 ("off", 0), ("recovered", False)),
    UNSUBSCRIBE: (("channel", ""), ("code", 0), ("reason", "")),
    EVENT: (("channel", ""), ("epoch", ""), ("off", 0), ("prev", 0), ("key", ""), ("type", ""),
            ("at", ""), ("data", None)),
    GAP: (("channel", ""), ("epoch", ""), ("from", 0), ("to", 0), ("why", "")),
    PING: (("load", 0),),
    PONG: (("load", 0),),
    GOODBYE: (("why", ""),),
}


class Message(dict):
    """A message: its fields as a dict, and as attributes."""

    __slots__ = ("number",)

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _default(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        text = value.astimezone(datetime.timezone.utc).isoformat()
        return text.replace("+00:00", "Z")
    if isinstance(value, (datetime.date, datetime.time, uuid.UUID)):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot travel on the bus")


def _ext(code, data):
    # ext 1 is the text of a JSON value, made by PostgreSQL
    return json.loads(data) if code == 1 else msgpack.ExtType(code, data)


def pack(number, **fields):
    """One message as bytes; absent fields are empty."""
    values = [number]
    for name, empty in FIELDS[number]:
        values.append(fields.pop(name, empty))
    if fields:
        raise TypeError(f"message {number} has no field {sorted(fields)[0]}")
    return msgpack.packb(values, default=_default, use_bin_type=True)


def unpack(frame):
    """The messages of a frame. Raises ValueError where the frame is malformed; messages with
    numbers that we do not know are left out, and those with a field of another type."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, ext_hook=_ext,
                                max_buffer_size=max(FRAME_MAX * 2, len(frame) + 1))
    unpacker.feed(frame)
    at = 0
    try:
        for values in unpacker:
            at = unpacker.tell()
            if not isinstance(values, list) or not values or not isinstance(values[0], int):
                raise ValueError("a message is an array that begins with its number")
            fields = FIELDS.get(values[0])
            if fields is None:
                continue
            message = _read(values, fields)
            if message is not None:
                yield message
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(str(error)) from error
    if at != len(frame):
        raise ValueError("the frame ends inside a message")


def _read(values, fields):
    message = Message()
    message.number = values[0]
    for place, (name, empty) in enumerate(fields, 1):
        value = values[place] if place < len(values) else empty
        if value is None:
            value = empty
        elif empty is not None and not _fits(value, empty):
            return None
        message[name] = value
    return message


def _fits(value, empty):
    if isinstance(empty, bool):
        return isinstance(value, bool)
    if isinstance(empty, int):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if isinstance(empty, bytes):
        return isinstance(value, (bytes, str))
    return isinstance(value, str)


def text_hash(data):
    """The 64-bit hash of the rendezvous choice: FNV-1a with a final mix."""
    mask = 0xFFFFFFFFFFFFFFFF
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & mask
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & mask
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & mask
    return value ^ (value >> 33)
