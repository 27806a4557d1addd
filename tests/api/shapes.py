"""What an answer must look like: patterns that a value is held against, with the place where it differs.

A dict names the fields that must be there (more may be), a list of one pattern an array of such, a tuple of one
pattern an array that must not be empty, a set the values that are possible, a type or a name below what its
values are, and anything else itself.
"""

import re
import uuid


class One:
    """A value that satisfies a test of its own."""

    def __init__(self, name, test):
        self.name, self.test = name, test

    def __repr__(self):
        return self.name

    def __or__(self, other):
        return One(f"{self!r} or {other!r}", lambda value: not differs(value, self) or not differs(value, other))

    __ror__ = __or__


def _is_uuid(value):
    return isinstance(value, str) and len(value) == 36 and str(uuid.UUID(value)) == value


def _matching(expression):
    return lambda value: isinstance(value, str) and re.fullmatch(expression, value) is not None


UUID = One("a uuid", _is_uuid)
TIME = One("a time in UTC", _matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"))
NUMBER = One("a number", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool))
TEXT = One("a text that is not empty", lambda value: isinstance(value, str) and value != "")
DIGITS = One("12 digits", _matching(r"\d{12}"))
NOTHING = One("null", lambda value: value is None)
LIVE = {"ch": TEXT, "epoch": TEXT, "off": NUMBER}


def differs(value, pattern, place="answer"):
    """Where and how `value` is not what `pattern` says; an empty text when it is."""
    if isinstance(pattern, One):
        try:
            fits = pattern.test(value)
        except ValueError:
            fits = False
        return "" if fits else f"{place} is {value!r}, not {pattern!r}"
    if isinstance(pattern, type):
        same = type(value) is pattern
        return "" if same else f"{place} is {value!r}, not {pattern.__name__}"
    if isinstance(pattern, (set, frozenset)):
        return "" if value in pattern else f"{place} is {value!r}, none of {sorted(pattern)}"
    if isinstance(pattern, dict):
        return _fields_differ(value, pattern, place)
    if isinstance(pattern, (list, tuple)):
        if not isinstance(value, list):
            return f"{place} is {value!r}, not an array"
        if isinstance(pattern, tuple) and not value:
            return f"{place} is empty"
        found = (differs(item, pattern[0], f"{place}[{number}]") for number, item in enumerate(value))
        return next(filter(None, found), "")
    same = type(value) is type(pattern) and value == pattern
    return "" if same else f"{place} is {value!r}, not {pattern!r}"


def _fields_differ(value, pattern, place):
    if not isinstance(value, dict):
        return f"{place} is {value!r}, not an object"
    missing = [name for name in pattern if name not in value]
    if missing:
        return f"{place} has no {', '.join(missing)}, but {', '.join(value)}"
    found = (differs(value[name], part, f"{place}.{name}") for name, part in pattern.items())
    return next(filter(None, found), "")


def has_shape(value, pattern):
    """Fails the test where it differs."""
    assert not (wrong := differs(value, pattern)), wrong
    return value
