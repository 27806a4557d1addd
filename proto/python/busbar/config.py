"""Where the bus is: arguments, then environment.

    BUSBAR_RUN       the run directory: inside, over ipc
    BUSBAR_DOOR      tcp endpoint of the broker's door, with
    BUSBAR_KEY_FILE  NAME.key (public and secret key, public key of the server) and
    BUSBAR_TOKEN     a token or API key
"""

import os


def read_key_file(path):
    """The pairs of a key file; a name that comes more than once is a list."""
    pairs = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{path}: a line is not like name = value")
            name, value = name.strip(), value.strip()
            pairs[name] = value if name not in pairs else [*_list(pairs[name]), value]
    return pairs


def _list(value):
    return value if isinstance(value, list) else [value]


class Config:
    """endpoint, run (the run directory, inside), public, secret, server keys, token."""

    def __init__(self, endpoint=None, token=None, server_key=None, keys=None):
        if endpoint is None:
            run, door = os.environ.get("BUSBAR_RUN"), os.environ.get("BUSBAR_DOOR")
            endpoint = f"ipc://{os.path.abspath(run)}/broker.s" if run else door
        if not endpoint:
            raise ValueError("no endpoint: give one, or set BUSBAR_RUN or BUSBAR_DOOR")
        if not endpoint.startswith(("ipc://", "tcp://")):
            endpoint = f"ipc://{os.path.abspath(endpoint)}/broker.s"  # a run directory
        self.endpoint = endpoint
        self.inside = endpoint.startswith("ipc://")
        self.run = os.path.dirname(endpoint[6:]) if self.inside else None
        self.public = self.secret = self.server = None
        self.token = ""
        if not self.inside:
            self._door(token, server_key, keys)

    def _door(self, token, server_key, keys):
        self.token = token if token is not None else os.environ.get("BUSBAR_TOKEN", "")
        keys = keys or os.environ.get("BUSBAR_KEY_FILE")
        if isinstance(keys, (str, os.PathLike)):
            pairs = read_key_file(keys)
            keys = (pairs.get("public"), pairs.get("secret"))
            server_key = server_key or pairs.get("server")
        if not keys or not all(keys) or not server_key:
            raise ValueError("the door needs keys (a key file, or public and secret) and the "
                             "server's public key")
        self.public, self.secret = keys
        self.server = server_key
