"""Compute clusters of a user, for tests."""

from kernel_world import alive, descendants
from stack import wait_for


class Cluster:
    """One local Dask cluster."""

    def __init__(self, user, **fields):
        self.user = user
        body = {"name": "numbers", "compute_type": "dask", "node_type": "local", "num_workers": 1,
                **fields}
        self.made = user.post("/compute-clusters", body, expect=201)
        self.id = self.made["id"]
        self.path = f"/compute-clusters/{self.id}"

    def row(self):
        return self.user.get(self.path)

    def start(self, expect=202):
        return self.user.post(f"{self.path}/start", expect=expect)

    def stop(self, expect=200):
        return self.user.post(f"{self.path}/stop", expect=expect)

    def is_at(self, detail, patience=60, **fields):
        """The row once it is in that state, with these values."""
        wanted = {"state_detail": detail, **fields}

        def there():
            row = self.row()
            return row if all(row[name] == value for name, value in wanted.items()) else None
        try:
            return wait_for(there, f"{wanted}", patience, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.row()}, {self.events()}") from None

    def running(self, **fields):
        self.start()
        return self.is_at("running", **fields)

    def events(self):
        """Types, oldest first."""
        return [event["type"] for event in reversed(self.user.get(f"{self.path}/events"))]

    def delete(self):
        self.user.delete(f"{self.path}?force=true", expect=(200, 404))


def processes(stack, word):
    """Pids of live processes of this system's clusters whose command line has that word."""
    return sorted(pid for pid, line in descendants(stack.process.pid).items()
                  if line.startswith("/usr/bin/python3\0-m\0") and word in line and alive(pid))
