"""A worker in Python, behind NATS, in the dialect `reply`: the handlers noop, authz and work.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python worker.py PLUGIN [PREFIX]

The broker, the group and credentials come from the environment, see docs/plugins.md. All phases run on one thread.
"""

import asyncio
import collections
import json
import os
import signal
import sys
import time

import flatbuffers
import msgpack
import nats
from flatbuffers.number_types import Uint16Flags
from flatbuffers.table import Table

PHASES = ("request_filter", "response_filter", "response_body_filter", "logging")

# The positions of the fields of nylon_plugin.fbs in their tables' vtables: 4 for the first, then 6, 8 and so on.
CONTEXT_REQUEST, CONTEXT_RESPONSE = 4, 6
REQUEST_METHOD, REQUEST_PATH = 4, 6
RESPONSE_STATUS, RESPONSE_HEADERS = 4, 6
PAIR_KEY, PAIR_VALUE = 4, 6


def child(table, field):
    """The table in a field, None when absent."""
    offset = table.Offset(field)
    return Table(table.Bytes, table.Indirect(offset + table.Pos)) if offset else None


def text(table, field):
    """The string in a field, empty when it or the table is absent."""
    offset = table.Offset(field) if table else 0
    return table.String(offset + table.Pos).decode() if offset else ""


class Context:
    """One phase of one session: reads are local, changes are collected."""

    def __init__(self, phase, data, timestamp_ms):
        self.phase = phase
        self.timestamp_ms = timestamp_ms
        self.is_changed = False
        self.request = self.response = None
        self.headers = []
        if data:
            root = Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))
            self.request = child(root, CONTEXT_REQUEST)
            self.response = child(root, CONTEXT_RESPONSE)
        offset = self.response.Offset(RESPONSE_HEADERS) if self.response else 0
        if offset:
            start = self.response.Vector(offset)
            for place in range(self.response.VectorLen(offset)):
                pair = Table(data, self.response.Indirect(start + 4 * place))
                self.headers.append((text(pair, PAIR_KEY), text(pair, PAIR_VALUE)))

    @property
    def method(self):
        return text(self.request, REQUEST_METHOD)

    @property
    def path(self):
        return text(self.request, REQUEST_PATH)

    @property
    def status(self):
        return self.response.GetSlot(RESPONSE_STATUS, 200, Uint16Flags) if self.response else 200

    @property
    def duration_ms(self):
        return int(time.time() * 1000) - self.timestamp_ms

    def set_response_header(self, key, value):
        """Replaces the header, ignoring the case of its name."""
        self.headers = [pair for pair in self.headers if pair[0].lower() != key.lower()] + [(key, value)]
        self.is_changed = True

    def changes(self):
        """The table NylonHttpContext with the response headers, which are always a complete new list."""
        if not self.is_changed:
            return None
        builder = flatbuffers.Builder(512)
        pairs = []
        for key, value in self.headers:
            strings = builder.CreateString(key), builder.CreateString(value)
            builder.StartObject(2)
            for slot, string in enumerate(strings):
                builder.PrependUOffsetTRelativeSlot(slot, string, 0)
            pairs.append(builder.EndObject())
        builder.StartVector(4, len(pairs), 4)
        for pair in reversed(pairs):
            builder.PrependUOffsetTRelative(pair)
        headers = builder.EndVector()
        builder.StartObject(3)  # NylonHttpResponse: status, headers, body
        builder.PrependUOffsetTRelativeSlot(1, headers, 0)
        response = builder.EndObject()
        builder.StartObject(2)  # NylonHttpContext: request, response
        builder.PrependUOffsetTRelativeSlot(1, response, 0)
        builder.Finish(builder.EndObject())
        return bytes(builder.Output())


# The handlers

configuration = {"work_us": 100}
# The last lines of the access log, in memory: a handler under load must not wait for a terminal.
access_log = collections.deque(maxlen=1024)


def noop(ctx):
    pass


def authz(ctx):
    """Does two reads, sets two headers and logs a line."""
    if ctx.phase == "request_filter":
        _ = ctx.method, ctx.path
        ctx.set_response_header("X-Plugin-Transport", "NATS")
    elif ctx.phase == "response_filter":
        ctx.set_response_header("X-Processed-By", "NATS-Worker")
    elif ctx.phase == "logging":
        access_log.append((ctx.method, ctx.path, ctx.status, ctx.duration_ms))


def work(ctx):
    """Burns CPU in the request filter."""
    if ctx.phase == "request_filter":
        end = time.monotonic_ns() + configuration["work_us"] * 1000
        while time.monotonic_ns() < end:
            pass


HANDLERS = {"noop": noop, "authz": authz, "work": work}


# The worker


def run(phase, request):
    """Runs the request's handler; returns the table of its changes, None if there are none."""
    headers = request.get("headers") or {}
    if phase == "lifecycle":
        if headers.get("method") == "initialize":
            configuration.update(json.loads(request["data"]))
        return None
    handler = HANDLERS.get(headers.get("entry"))
    if handler is None:
        raise LookupError(f"no entry '{headers.get('entry')}'; this worker has: {', '.join(HANDLERS)}")
    ctx = Context(phase, request.get("data"), request.get("timestamp", 0))
    handler(ctx)
    return ctx.changes()


def answer(phase, payload):
    """The reply to a request, whose id is a string or 16 bytes and is echoed with its type."""
    reply = {"version": 1, "session_id": 0, "action": ""}
    try:
        request = msgpack.unpackb(payload)
        reply["request_id"] = request["request_id"]
        reply["session_id"] = request.get("session_id", 0)
    except Exception as error:
        return reply | {"error": f"request: {error!r}"}
    try:
        changes = run(phase, request)
    except Exception as error:
        return reply | {"action": "error", "error": str(error) or repr(error)}
    return reply | {"action": "next"} | ({"data": changes} if changes is not None else {})


def settings():
    """The broker's settings in the environment, as keyword arguments of nats.connect."""
    environment = {name: value for name, value in os.environ.items() if value}
    names = {"NATS_TOKEN": "token", "NATS_USER": "user", "NATS_PASSWORD": "password", "NATS_CREDS": "user_credentials"}
    found = {keyword: environment[name] for name, keyword in names.items() if name in environment}
    servers = environment.get("NATS_SERVERS", "nats://127.0.0.1:4222").split(",")
    return {"servers": servers, "max_reconnect_attempts": -1, **found}


async def serve(plugin, prefix):
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    connection = await nats.connect(**settings())
    group = os.environ.get("NATS_GROUP") or "default"
    for phase in (*PHASES, "lifecycle"):

        async def handle(message, phase=phase):
            payload = msgpack.packb(answer(phase, message.data))
            if message.reply:
                await connection.publish(message.reply, payload)

        queue = "" if phase == "lifecycle" else group
        await connection.subscribe(f"{prefix}.{plugin}.{phase}", queue=queue, cb=handle)
    await connection.flush()
    print(f"Plugin {plugin} started successfully", flush=True)
    await stopped.wait()
    # Finishes the received requests.
    await connection.drain()


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: worker.py PLUGIN [PREFIX]")
    prefix = sys.argv[2] if len(sys.argv) > 2 else "nylon.plugin"
    try:
        asyncio.run(serve(sys.argv[1], prefix))
    except (OSError, nats.errors.Error) as error:
        print(f"worker-python: {error!r}", file=sys.stderr)
        sys.exit(69)


if __name__ == "__main__":
    main()
