"""A Redis between the workers and Redis that tests can stop at any command, so that races come out as wanted.

    proxy = RedisProxy(path, redis_server)       # workers: REDIS_URL=unix://path; commands: proxy.admin_path
    held = proxy.hold("refresh")                 # the next command of this kind waits ("after": its answer does)
    held.wait()                                  # until one is there
    held.release()
    with proxy.watched(pid) as steps: ...        # then `steps` are the names of the commands that this worker sent
    with proxy.shuffled(seed): ...               # commands and answers of all workers, in an order drawn from the seed

Commands have names (`step`), by what the service does with them. A worker gives up on an answer after half a second:
whoever holds one longer tests just that. Whoever dies while its command is held before it reached Redis never sent it.
A socket tells the pid of its peer, so the workers connect to one without a name; the proxy says it for them.
"""

import asyncio
import contextlib
import functools
import os
import random
import socket
import struct
import threading


class Held:
    """A hold that was set: the worker that met it, and the way to let it go on."""

    def __init__(self, loop, name, after, pid, skip):
        self.name = name
        self.after = after
        self.pid = pid
        self.skip = skip
        self.met = None
        self._loop = loop
        self._met = threading.Event()
        self._released = asyncio.Event()

    def fits(self, name, after, pid):
        if self.met is not None or self.name != name or self.after != after or self.pid not in (None, pid):
            return False
        self.skip -= 1
        return self.skip < 0

    async def stop(self, pid):
        self.met = pid
        self._met.set()
        await self._released.wait()

    def wait(self, seconds=10):
        """The pid of the worker that is held."""
        assert self._met.wait(seconds), f"nobody came to {self.name} within {seconds} s"
        return self.met

    def release(self):
        self._loop.call_soon_threadsafe(self._released.set)


class Shuffle:
    """Of the commands and answers that are there, one at a time goes on."""

    def __init__(self, seed):
        self.order = random.Random(seed)
        self._waiting = []
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def turn(self):
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self._arrived.set()
        await mine

    async def _run(self):
        while True:
            await self._arrived.wait()
            # Who comes first does not always go first: sometimes there is time for another to catch up.
            await asyncio.sleep(self.order.choice((0, 0, 0, 0.002)))
            mine = self._waiting.pop(self.order.randrange(len(self._waiting)))
            if not self._waiting:
                self._arrived.clear()
            if not mine.done():
                mine.set_result(None)
            await asyncio.sleep(0)

    def end(self):
        self._task.cancel()
        for mine in self._waiting:
            if not mine.done():
                mine.set_result(None)
        self._waiting = []


class RedisProxy:
    def __init__(self, path, server):
        self.path = path
        self._server_socket = server.socket
        self.admin_path = path + ".admin"
        self._password = server.password
        self._loop = asyncio.new_event_loop()
        self._held = []
        self._watches = []
        self._shuffle = None
        self._tasks = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = [self._call(asyncio.start_unix_server(functools.partial(self._serve, name), where, backlog=128))
                         for name, where in (("integrations", path), ("integrations-admin", self.admin_path))]

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def stop(self):
        async def end():
            for server in self._servers:
                server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        os.unlink(self.path)
        os.unlink(self.admin_path)

    def hold(self, name, after=False, pid=None, skip=0):
        """`skip`: so many commands of this kind pass first."""
        held = Held(self._loop, name, after, pid, skip)
        self._held.append(held)
        return held

    def clear(self):
        """Let everybody go on who is held, and hold nobody any more."""
        held, self._held = self._held, []
        for each in held:
            each.release()

    @contextlib.contextmanager
    def watched(self, pid):
        watch = (pid, [])
        self._watches.append(watch)
        try:
            yield watch[1]
        finally:
            self._watches.remove(watch)

    @contextlib.contextmanager
    def shuffled(self, seed):
        async def begin():
            self._shuffle = Shuffle(seed)

        async def end():
            shuffle, self._shuffle = self._shuffle, None
            shuffle.end()
        self._call(begin())
        try:
            yield
        finally:
            self._call(end())

    async def _serve(self, name, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        worker = asyncio.ensure_future(self._forward(name, reader, writer, struct.unpack("3i", peer)[0]))
        try:
            await worker
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            worker.cancel()
            writer.close()
            self._tasks.discard(task)

    async def _forward(self, user, reader, writer, pid):
        from_redis, to_redis = await asyncio.open_unix_connection(self._server_socket)
        to_redis.write(f"AUTH {user} {self._password}\r\n".encode())
        await read_answer(from_redis)
        commands = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(reader, commands))
        try:
            while (command := await commands.get()) is not None:
                raw, words = command
                name = step(words)
                for of, steps in list(self._watches):
                    if of == pid:
                        steps.append(name)
                if not await self._pause(name, False, pid, reading):
                    return
                to_redis.write(raw)
                answer = await read_answer(from_redis)
                # A script that Redis does not know was not run: the worker sends it once more, whole.
                if not answer.startswith(b"-NOSCRIPT") and not await self._pause(name, True, pid, reading):
                    return
                writer.write(answer)
        finally:
            reading.cancel()
            to_redis.close()

    @staticmethod
    async def _read(reader, commands):
        try:
            while True:
                commands.put_nowait(await read_command(reader))
        except (asyncio.IncompleteReadError, OSError):
            commands.put_nowait(None)

    async def _pause(self, name, after, pid, reading):
        """False when the worker is gone meanwhile."""
        waits = [held.stop(pid) for held in self._held if held.fits(name, after, pid)][:1]
        if self._shuffle is not None:
            waits.append(self._shuffle.turn())
        for wait in waits:
            waiting = asyncio.ensure_future(wait)
            await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                return False
        return True


# The protocol


async def read_command(reader):
    """The command's bytes, and its words."""
    head = await reader.readuntil(b"\r\n")
    raw, words = [head], []
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        word = await reader.readexactly(int(size[1:]) + 2)
        raw += size, word
        words.append(word[:-2].decode("utf-8", "replace"))
    return b"".join(raw), words


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n")
    kind, rest = head[:1], head[1:-2]
    if kind == b"$" and int(rest) >= 0:
        return head + await reader.readexactly(int(rest) + 2)
    if kind == b"*" and int(rest) > 0:
        return head + b"".join([await read_answer(reader) for _ in range(int(rest))])
    return head


# What a command is for

STEPS = {
    ("SET", "refresh_lease"): "lease", ("GET", "integrations:refresh_failure"): "failure_read",
    ("SET", "integrations:refresh_failure"): "failure_note", ("SADD", "grant"): "grant_add",
    ("SREM", "grant"): "grant_remove", ("SMEMBERS", "grant"): "grant_members",
    ("GET", "integrations:revoking"): "revocation",
    ("HMGET", "caller"): "caller", ("HMGET", "session"): "session", ("HMGET", "integration"): "record",
    ("HMGET", "credential"): "holding", ("EXISTS", "removed"): "removed", ("XADD", "events"): "event",
}


def step(words):
    """The name of a command: of STEPS, of a script (read, connect, refresh, status, delete, vended, refused,
    lease_renew, lease_release, revoking, revoking_over,
    take, dealt_with), or the command's own."""
    command = words[0].upper()
    if command not in ("EVAL", "EVALSHA"):
        return STEPS.get((command, kind(words[1]) if len(words) > 1 else ""), command.lower())
    count = int(words[2])
    keys, arguments = words[3:3 + count], words[3 + count:]
    if kind(keys[0]) == "refresh_lease":
        return "lease_renew" if "PEXPIRE" in words[1] else "lease_release"
    if kind(keys[0]) == "integrations:revoking":
        return "revoking_over" if len(arguments) == 3 else "revoking"
    if kind(keys[0]) == "integrations:unrevoked":
        return "dealt_with" if arguments else "take"
    if kind(keys[0]) == "integrations:audit_uses":
        return "event"
    if kind(keys[0]) != "integration":
        return f"script of {kind(keys[0])}"
    if count == 1:
        return "status"
    if not arguments:
        return "delete"
    if arguments[0].startswith("removed:"):
        return "read" if len(arguments) in (1, 5) else "connect"
    return {3: "vended", 2: "refused"}.get(len(arguments), "refresh")


def kind(key):
    """What stands before the ids: "integration" of "integration:{acme:ada}:google"."""
    if ":{" in key:
        return key.split(":{")[0]
    return key.rsplit(":", 1)[0] if ":" in key else ""
