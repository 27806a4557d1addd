"""Keeper of one local cluster: the first process of its sandbox.

Starts the scheduler, keeps as many workers as it is told, says how things are to whoever connects to
the control socket, and relays connections from outside to the scheduler. Workers run users' code
under the same user, so whatever is said here is about this cluster and trusted for nothing else.

Control, one JSON object per line. Told: {"target": workers} or {"stop": true}. Said, at every change
and twice a second: what `Keeper.status` gives.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time

HOST = "127.0.0.1"
TICK = 0.5                       # s
YOUNG = 10                       # s: who dies before that is not started again at once
BACKOFF_MAX = 30                 # s
HEAR = 0.1                       # s
RETIRE = 15                      # s that a worker has to hand over what it holds
LINE_MAX = 65536
PIECE = 262144
SAID_MAX = 2000                  # bytes


class Dask:
    """dask.distributed: its scheduler, its workers, and what the scheduler says of itself."""

    relay = 8786
    web = 8787
    environment = {
        "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(
            ["distributed.http.scheduler.json", "distributed.http.scheduler.api",
             "distributed.http.health"])}

    def __init__(self, options):
        self.python, self.memory = options["python"], options["memory"]

    def scheduler(self):
        return [self.python, "-m", "distributed.cli.dask_scheduler", "--host", HOST,
                "--port", str(self.relay), "--dashboard-address", f"{HOST}:{self.web}"]

    def worker(self, name):
        return [self.python, "-m", "distributed.cli.dask_worker", f"tcp://{HOST}:{self.relay}",
                "--no-nanny", "--nthreads", "1", "--name", name, "--no-dashboard",
                "--memory-limit", f"{self.memory}MiB", "--local-directory", "/tmp"]

    async def look(self):
        """(workers registered, workers wanted, is it busy); raises OSError while it is not there."""
        counts = json.loads(await http(self.web, "GET", "/json/counts.json"))
        busy = counts["processing"] or counts["waiting"] or counts.get("queued")
        return counts["workers"], counts["desired_workers"], bool(busy)

    async def retire(self, count):
        await http(self.web, "POST", "/api/v1/retire_workers", json.dumps({"n": count}))


class Ray:
    """Ray: a head without processors, a node with one for each worker."""

    relay = 10001
    gcs = 6379
    #  Left to itself each node takes ports and names of sockets that were free a moment ago, and who comes second
    #  aborts. These ports are below those that the kernel gives to connections, and above Ray's own ranges.
    ports = ("node-manager", "object-manager", "runtime-env-agent", "dashboard-agent-grpc",
             "dashboard-agent-listen", "metrics-export")
    first_port, nodes = 24000, 800
    #  Handlers around fork end a client's server now and then before it has begun.
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1",
                   "GRPC_ENABLE_FORK_SUPPORT": "0"}

    def __init__(self, options):
        self.ray = [options["python"], "-m", "ray.scripts.scripts", "start", "--block",
                    "--node-ip-address", HOST, "--disable-usage-stats",
                    "--object-store-memory", str(options["memory"] * 1048576 // 4)]
        self.count = 0

    def node(self):
        """How the next node is started."""
        number = self.count % self.nodes
        self.count += 1
        ports = enumerate(self.ports, self.first_port + 10 * number)
        return [*self.ray, *(f"--{name}-port={port}" for port, name in ports),
                f"--raylet-socket-name=/tmp/raylet-{number}", f"--plasma-store-socket-name=/tmp/plasma-{number}"]

    def scheduler(self):
        return [*self.node(), "--head", "--port", str(self.gcs), "--num-cpus", "0",
                "--ray-client-server-port", str(self.relay), "--include-dashboard", "false"]

    def worker(self, name):
        return [*self.node(), "--address", f"{HOST}:{self.gcs}", "--num-cpus", "1",
                "--labels", json.dumps({"busbar": name})]

    async def look(self):
        reader, writer = await asyncio.open_connection(HOST, self.relay)
        del reader
        writer.close()
        return None, None, True

    async def retire(self, count):
        raise OSError("a node of Ray is ended, not retired")


async def http(port, verb, path, body=""):
    """The body of the answer of a server in here."""
    async def talk():
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(f"{verb} {path} HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
                         f"\r\n{body}".encode())
            head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0] + b" ":
                raise OSError("the scheduler refused")
            return rest
        finally:
            writer.close()
    return await asyncio.wait_for(talk(), 10)


class Worker:
    """One worker process."""

    def __init__(self, name, process):
        self.name, self.process, self.began = name, process, time.monotonic()
        self.why = None

    def memory(self):
        """MiB resident."""
        try:
            with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        except OSError:
            return 0


class Keeper:
    """The processes of the cluster and those who ask about them."""

    def __init__(self, options):
        self.engine = {"dask": Dask, "ray": Ray}[options["kind"]](options)
        self.target, self.memory = options["workers"], options["memory"]
        self.workers, self.writers, self.head = [], set(), None
        self.number = self.lost = self.backoff = 0
        self.start_at, self.retiring = 0.0, None
        self.registered, self.desired, self.up = 0, 0, False
        self.busy_at, self.why = time.monotonic(), None
        self.changed = asyncio.Event()

    def status(self):
        """How things are."""
        return {"up": self.up, "target": self.target, "workers": self.registered,
                "processes": len(self.workers), "desired": self.desired, "lost": self.lost,
                "why": self.why, "idle": int(time.monotonic() - self.busy_at)}

    #  ---- processes ----

    async def begin(self, argv):
        process = await asyncio.create_subprocess_exec(
            *argv, env={**os.environ, **self.engine.environment}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        process.said = b""
        process.reader = asyncio.create_task(listen(process))
        return process

    def lose(self, worker):
        self.lost += 1
        self.why = f"worker {worker.name} {worker.why or death(worker.process)}"
        young = time.monotonic() - worker.began < YOUNG
        self.backoff = min(2 * self.backoff + 1, BACKOFF_MAX) if young else 0
        self.start_at = time.monotonic() + self.backoff

    def reap(self):
        alive = [one for one in self.workers if one.process.returncode is None]
        surplus = len(self.workers) - self.target
        for worker in self.workers:
            if worker.process.returncode is None:
                continue
            #  One too many may go; the others were needed.
            if surplus > 0 and worker.why is None:
                surplus -= 1
            else:
                self.lose(worker)
        self.workers = alive

    def watch_memory(self):
        for worker in self.workers:
            if worker.memory() > self.memory and worker.why is None:
                worker.why = f"exceeded its {self.memory} MiB of memory"
                worker.process.kill()

    async def grow(self):
        self.retiring = None
        while len(self.workers) < self.target and time.monotonic() >= self.start_at:
            self.number += 1
            name = f"w{self.number}"
            self.workers.append(Worker(name, await self.begin(self.engine.worker(name))))

    async def shrink(self):
        """Those that hold least go, after they have handed it over; later any."""
        now = time.monotonic()
        if self.retiring is None:
            self.retiring = now + RETIRE
            try:
                await self.engine.retire(len(self.workers) - self.target)
            except (OSError, asyncio.TimeoutError):
                self.retiring = now
        elif now >= self.retiring:
            for worker in self.workers[self.target:]:
                worker.process.terminate()

    async def look(self):
        try:
            registered, desired, busy = await self.engine.look()
        except (OSError, ValueError, asyncio.TimeoutError):
            return
        if busy or not self.up:
            self.busy_at = time.monotonic()
        self.up = True
        self.registered = len(self.workers) if registered is None else registered
        self.desired = self.registered if desired is None else desired

    async def turn(self):
        self.reap()
        self.watch_memory()
        await self.look()
        if self.up and len(self.workers) < self.target:
            await self.grow()
        elif len(self.workers) > self.target:
            await self.shrink()
        else:
            self.retiring = None

    #  ---- control ----

    def obey(self, line):
        order = json.loads(line)
        if order.get("stop"):
            os._exit(0)
        if isinstance(order.get("target"), int):
            self.target = max(0, order["target"])
            self.changed.set()

    async def control(self, reader, writer):
        #  Who says one thing and leaves is heard before it is answered, for an answer that nobody
        #  takes ends the connection with all that has not been read of it.
        line = asyncio.create_task(reader.readline())
        await asyncio.wait([line], timeout=HEAR)
        self.writers.add(writer)
        try:
            self.tell([writer])
            while said := await line:
                self.obey(said)
                line = asyncio.create_task(reader.readline())
        except (OSError, ValueError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def tell(self, writers):
        line = json.dumps(self.status()).encode() + b"\n"
        for writer in list(writers):
            if writer.transport.get_write_buffer_size() < LINE_MAX:
                writer.write(line)

    #  ---- relay ----

    async def relay(self, reader, writer):
        try:
            inner, outer = await asyncio.open_connection(HOST, self.engine.relay, limit=PIECE)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    async def run(self, control, relay):
        """Until the scheduler ends or somebody says so."""
        await asyncio.start_unix_server(self.control, sock=control, limit=LINE_MAX)
        await asyncio.start_unix_server(self.relay, sock=relay, limit=PIECE)
        self.head = await self.begin(self.engine.scheduler())
        while self.head.returncode is None:
            await self.turn()
            self.tell(self.writers)
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), TICK)
            except asyncio.TimeoutError:
                pass
        sys.exit(f"the scheduler {death(self.head)}")


async def listen(process):
    """Keep the last that a process says."""
    while data := await process.stderr.read(SAID_MAX):
        process.said = (process.said + data)[-SAID_MAX:]


def death(process):
    """How it ended, in words."""
    code = process.returncode
    if code < 0:
        return f"was ended by signal {-code}"
    last = process.said.decode(errors="replace").strip().rpartition("\n")[2]
    return f"ended with status {code}: {last[:500]}"


async def pump(reader, writer):
    """All bytes of one direction, then its end."""
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def main():
    """keeper.py OPTIONS CONTROL RELAY: JSON, and the descriptors of two listening sockets."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    control, relay = (socket.socket(fileno=int(number)) for number in sys.argv[2:4])
    os.set_inheritable(control.fileno(), False)
    os.set_inheritable(relay.fileno(), False)

    async def serve():
        await Keeper(json.loads(sys.argv[1])).run(control, relay)
    asyncio.run(serve())


main()
