"""Fixtures over one real system, started once per run and ended with it."""

import pathlib
import resource
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "proto" / "python")]

from client import User, signed_up  # noqa: E402
from source_world import source_world  # noqa: E402,F401
from stack import Stack  # noqa: E402


@pytest.fixture
def many_files():
    """A shell gives 1024 descriptors: as many as are allowed, for the test alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def stack():
    """The running system; tests that kill parts of it leave it whole."""
    system = Stack()
    system.wait()
    yield system
    assert system.stop() == 0, "busbar up did not end in order"


@pytest.fixture(scope="session")
def sign_up(stack):
    """Make another user: sign_up("name") → a signed-in User."""
    made = []

    def make(name="somebody"):
        made.append(signed_up(stack.base, name))
        return made[-1]

    yield make
    for user in made:
        user.close()


@pytest.fixture(scope="session")
def ann(sign_up):
    return sign_up("ann")


@pytest.fixture(scope="session")
def bob(sign_up):
    return sign_up("bob")


@pytest.fixture(scope="session")
def anyone(stack):
    """Nobody: no token."""
    user = User(stack.base)
    yield user
    user.close()


@pytest.fixture(scope="session")
def operator(stack):
    """A bus client inside: a call without identity is the operator's."""
    import busbar

    with busbar.Client(str(stack.run)) as client:
        yield client
