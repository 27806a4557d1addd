"""Each file breaks a system of its own."""

import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(TESTS / "api"),
                str(TESTS.parent / "proto" / "python")]

from client import signed_up  # noqa: E402
from stack import Stack  # noqa: E402


@pytest.fixture(scope="module")
def stack():
    """Whatever was killed in it, it ends in order."""
    system = Stack()
    system.wait()
    yield system
    assert system.stop() == 0, "busbar up did not end in order"


@pytest.fixture(scope="module")
def sign_up(stack):
    made = []

    def make(name="somebody"):
        made.append(signed_up(stack.base, name))
        return made[-1]

    yield make
    for user in made:
        user.close()


@pytest.fixture
def healthy(stack):
    """The system as it should be before the next thing is broken."""
    from kills import all_up
    all_up(stack)
    return stack
