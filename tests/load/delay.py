"""A Redis that is further away: a proxy on a unix socket whose answers take so much longer.

    with Delay(path, redis_server, 0.005): ...   # workers: REDIS_URL=unix://path
"""

import asyncio
import os
import threading


class Delay:
    def __init__(self, path, server, seconds):
        self.path = path
        self._server = server
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._listener = asyncio.run_coroutine_threadsafe(
            asyncio.start_unix_server(self._connect, self.path, backlog=128), self._loop).result(10)
        return self

    def __exit__(self, kind, error, trace):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        os.unlink(self.path)

    async def _connect(self, reader, writer):
        from_redis, to_redis = await asyncio.open_unix_connection(self._server.socket)
        to_redis.write(f"AUTH integrations {self._server.password}\r\n".encode())
        await from_redis.readuntil(b"\r\n")
        sending = asyncio.ensure_future(self._pump(reader, to_redis, 0))
        await self._pump(from_redis, writer, self._seconds)
        sending.cancel()

    async def _pump(self, reader, writer, seconds):
        try:
            while data := await reader.read(1 << 20):
                self._loop.call_later(seconds, self._write, writer, data)
        except OSError:
            pass
        self._loop.call_later(seconds, writer.close)

    @staticmethod
    def _write(writer, data):
        if not writer.is_closing():
            writer.write(data)
