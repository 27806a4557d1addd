"""People as identity knows them: accounts, the first administrator, codes out of the log."""

import base64
import itertools
import json
import re
import uuid

import httpx

from client import PASSWORD, User
from stack import wait_for


def address(name="somebody"):
    return f"{name}-{uuid.uuid4().hex[:10]}@example.org"


def claims(token):
    """What a token says, unverified."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def signed_in(stack, email, password=PASSWORD):
    user = User(stack.base)
    answer = user.post("/auth/signin", {"email": email, "password": password})
    user.token, user.refresh, user.user = answer["token"], answer["refresh_token"], answer["user"]
    user.password = password
    return user


def administrator(stack):
    """The first administrator, whose password was printed once, in the log."""
    found = re.findall(r"shown once.* email=(\S+) password=(\S+)", stack.log_text())
    assert len(found) == 1, "the password of the first administrator is logged exactly once"
    return signed_in(stack, *found[0])


def codes(stack, email, purpose):
    return re.findall(rf"purpose={purpose} .*email={re.escape(email)} .*code=([\w-]+)", stack.log_text())


def code(stack, email, purpose, known=()):
    """The code that a message would carry; without a mail server it is the operator who reads it."""
    fresh = wait_for(lambda: [c for c in codes(stack, email, purpose) if c not in known],
                     f"a {purpose} code for {email}")
    return fresh[-1]


s_addresses = itertools.count(uuid.uuid4().int % 200 * 65536 + 2)


def stranger(stack):
    """Nobody, from an address of their own: failures count against it and no other."""
    number = next(s_addresses) % 0xFFFFFF
    user = User(stack.base)
    user.address = f"127.{number >> 16}.{number >> 8 & 255}.{number & 255 or 1}"
    user.http.close()
    user.http = httpx.Client(base_url=stack.base, timeout=60.0, trust_env=False,
                             transport=httpx.HTTPTransport(local_address=user.address))
    return user
