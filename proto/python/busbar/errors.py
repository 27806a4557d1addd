"""What goes wrong, as exceptions."""

STATUS = {
    "INVALID": 400, "UNAUTHORIZED": 401, "FORBIDDEN": 403, "NOT_FOUND": 404, "METHOD": 405,
    "NOT_ACCEPTABLE": 406, "TIMED_OUT": 408, "CONFLICT": 409, "LENGTH": 411, "PRECONDITION": 412,
    "TOO_LARGE": 413, "URI_TOO_LONG": 414, "MEDIA_TYPE": 415, "RANGE": 416, "KEY_REUSED": 422,
    "LOCKED": 423, "RATE_LIMITED": 429, "HEADERS": 431, "INTERNAL": 500, "UPSTREAM": 502,
    "UNAVAILABLE": 503, "TIMEOUT": 504, "STORAGE_FULL": 507,
}

TEXT = {
    "INVALID": "request is not valid", "UNAUTHORIZED": "authentication required",
    "FORBIDDEN": "not allowed for this role", "NOT_FOUND": "not found",
    "CONFLICT": "conflicts with current state", "TOO_LARGE": "body is too large",
    "RATE_LIMITED": "too many requests", "INTERNAL": "internal error",
    "UNAVAILABLE": "try again later", "TIMEOUT": "no answer in time",
}


class BusError(Exception):
    """A call was answered with an error, or by nobody.

    status   HTTP status (409)
    code     our code ("CONFLICT")
    text     for people
    details  {field: why}
    meta     of the reply; meta["outcome"] == "unknown": the call may have been executed
    """

    def __init__(self, status, code, text, details=None, meta=None):
        super().__init__(f"{code}: {text}")
        self.status = status
        self.code = code
        self.text = text
        self.details = details or {}
        self.meta = meta or {}

    @property
    def unknown(self):
        return self.meta.get("outcome") == "unknown"


class Refused(BusError):
    """The broker will not have us: a route conflict, an unknown key, a bad token."""


class Fail(Exception):
    """Raised by a handler: the call is answered with this error.

        raise busbar.Fail("CONFLICT", "cluster is running", status="is running")
    """

    def __init__(self, code, text=None, /, **details):
        if code not in STATUS:
            raise ValueError(f"{code} is no error code")
        self.code = code
        self.status = STATUS[code]
        self.text = text or TEXT.get(code, code.lower().replace("_", " "))
        self.details = details
        super().__init__(f"{code}: {self.text}")
