"""Declared input fields: what a route announces and what its requests are checked against."""

import datetime
import re
import uuid

from .errors import Fail

TYPES = ("text", "int", "real", "bool", "uuid", "enum", "json", "object", "array", "time", "date",
         "email", "money", "names")
_KEYS = {"type", "required", "min", "max", "values", "def", "doc", "json", "also", "nullable",
         "secret", "readonly", "filter", "sort"}
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
TEXT_MAX = 64 * 1024


def declare(fields):
    """{"name": {"type": "text", "required": True, "max": 64}, "size": "int"} → the announced
    list."""
    announced = []
    for name, field in (fields or {}).items():
        field = {"type": field} if isinstance(field, str) else dict(field)
        if isinstance(field.get("values"), str):
            field["values"] = field["values"].split("|")
        if "default" in field:
            field["def"] = str(field.pop("default"))
        kind = field.setdefault("type", "enum" if field.get("values") else "text")
        if kind not in TYPES:
            raise ValueError(f"field {name}: type {kind} is not one of {', '.join(TYPES)}")
        foreign = set(field) - _KEYS
        if foreign:
            raise ValueError(f"field {name}: {sorted(foreign)[0]} is no key of a field")
        announced.append({"name": name, **field})
    return announced


def check(fields, params, body, strict=False):
    """Values by name, looked up in path and query, then body; and the names that nobody
    declared. Raises Fail INVALID that names the field."""
    values = {}
    for field in fields:
        if field.get("readonly"):
            continue
        name = field["name"]
        found, value, text = _find(field, params, body)
        if not found and "def" in field:
            found, value, text = True, field["def"], True
        if not found:
            if field.get("required"):
                raise Fail("INVALID", f"{name} is required", **{name: "is required"})
            continue
        if value is None:
            if field.get("required") and not field.get("nullable"):
                raise Fail("INVALID", f"{name} is required", **{name: "is required"})
            values[name] = None
            continue
        values[name] = _value(field, value, text)
    names = {name for field in fields for name in (field["name"], field.get("json"),
                                                   field.get("also")) if name}
    ignored = sorted(str(name) for name in body if name not in names) \
        if isinstance(body, dict) and fields else []
    if strict and ignored:
        raise Fail("INVALID", f"{ignored[0]} is not a field", **{ignored[0]: "is not a field"})
    return values, ignored


def _find(field, params, body):
    for name in (field.get("json") or field["name"], field["name"], field.get("also")):
        if name and isinstance(params, dict) and name in params:
            return True, params[name], True
    for name in (field.get("json") or field["name"], field["name"], field.get("also")):
        if name and isinstance(body, dict) and name in body:
            return True, body[name], False
    return False, None, False


def _value(field, value, text):
    def refuse(why):
        raise Fail("INVALID", f"{field['name']} {why}", **{field["name"]: why})

    kind = field["type"]
    value = _CONVERT[kind](value, text and isinstance(value, str), refuse)
    low, high = field.get("min"), field.get("max")
    if kind in ("int", "real", "money"):
        if low is not None and value < low:
            refuse(f"must be at least {low}")
        if high is not None and value > high:
            refuse(f"must be at most {high}")
    elif kind in ("text", "email"):
        if low is not None and len(value) < low:
            refuse(f"must have at least {low} characters")
        if high is not None and len(value) > high:
            refuse(f"must have at most {high} characters")
        if high is None and len(value.encode()) > TEXT_MAX:
            refuse("is too long")
    elif kind in ("array", "names"):
        if low is not None and len(value) < low:
            refuse(f"must have at least {low} entries")
        if high is not None and len(value) > high:
            refuse(f"must have at most {high} entries")
    elif kind == "enum" and value not in field["values"]:
        refuse(f"must be one of {', '.join(field['values'])}")
    return value


def _text(value, _text_given, refuse):
    return value if isinstance(value, str) else refuse("must be text")


def _int(value, text, refuse):
    if text and re.fullmatch(r"-?[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) \
        else refuse("must be an integer")


def _real(value, text, refuse):
    if text:
        try:
            value = float(value)
        except ValueError:
            pass
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if good and value == value and abs(value) != float("inf") \
        else refuse("must be a number")


def _bool(value, text, refuse):
    if text and value in ("true", "false", "1", "0"):
        value = value in ("true", "1")
    return value if isinstance(value, bool) else refuse("must be true or false")


def _uuid(value, _text_given, refuse):
    if isinstance(value, str) and len(value) == 36:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    return refuse("must be a UUID")


def _time(value, _text_given, refuse):
    if isinstance(value, str):
        try:
            datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
            return value
        except ValueError:
            pass
    return refuse("must be a time (RFC 3339)")


def _date(value, _text_given, refuse):
    if isinstance(value, str):
        try:
            datetime.date.fromisoformat(value)
            return value
        except ValueError:
            pass
    return refuse("must be a date (YYYY-MM-DD)")


def _email(value, _text_given, refuse):
    if isinstance(value, str) and len(value) <= 254 and _EMAIL.fullmatch(value):
        return value
    return refuse("must be an e-mail address")


def _object(value, _text_given, refuse):
    return value if isinstance(value, dict) else refuse("must be an object")


def _array(value, _text_given, refuse):
    return value if isinstance(value, list) else refuse("must be an array")


def _names(value, _text_given, refuse):
    good = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return value if good else refuse("must be an array of texts")


_CONVERT = {
    "text": _text, "enum": _text, "int": _int, "real": _real, "money": _real, "bool": _bool,
    "uuid": _uuid, "json": lambda value, *_: value, "object": _object, "array": _array,
    "time": _time, "date": _date, "email": _email, "names": _names,
}
