"""Plays scenes with `websockets`, as client.js and scenario.js do with `ws`.

Stdin: {ca, scenes: [{url, options, origin, protocols, steps}]}, where `options` are those of
ClientPerMessageDeflateFactory, or null for none. Stdout: a list of reports; one of a connection that did not come about
has `failed`.
"""

import json
import random
import ssl
import sys

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect


def make(kind, size):
    """Text compresses well, binary not at all."""
    if kind == "text":
        return "".join(f"{i} ".rjust(16, "~") for i in range(-(-size // 16)))[:size]
    return random.Random(size).randbytes(size)


def echo(socket, kind, size):
    message = make(kind, size)
    socket.send(message)
    return socket.recv() == message


def fragments(socket, kind, sizes):
    message = make(kind, sum(sizes))
    pieces, at = [], 0
    for size in sizes:
        pieces.append(message[at : at + size])
        at += size
    socket.send(pieces)
    return socket.recv() == message


def many(socket, count, size):
    messages = [str(i).ljust(size, ".") for i in range(count)]
    for message in messages:
        socket.send(message)
    return all(socket.recv() == message for message in messages)


def take(socket, step):
    ((name, value),) = step.items()
    match name:
        case "echo":
            return echo(socket, **value)
        case "fragments":
            return fragments(socket, **value)
        case "many":
            return many(socket, **value)
        case "say":
            socket.send(value)
            return True
        case "hear":
            return socket.recv()
        case "ping":
            return socket.ping(value).wait()
        case "flood":
            socket.send(make("binary", **value))
            return True
        case "close":
            socket.close(*value)
            return True
    raise ValueError(f"no such step: {name}")


def end(socket):
    """How the connection ended: as a browser's `onclose` has it."""
    try:
        while True:
            socket.recv()
    except ConnectionClosed as closed:
        received, sent = closed.rcvd, closed.sent
    if received is None:
        return {"code": 1006, "reason": "", "clean": False}
    return {"code": received.code, "reason": received.reason, "clean": sent is not None}


def play(socket, steps):
    answer = socket.response.headers.get("Sec-WebSocket-Extensions", "")
    report = {"opened": {"protocol": socket.subprotocol or "", "extensions": answer}, "steps": []}
    for step in steps:
        try:
            report["steps"].append(take(socket, step))
        except ConnectionClosed:
            report["steps"].append(None)
    return report | {"close": end(socket)}


def trusting(ca):
    """TLS 1.2, so that there is a client of that; Node and Chromium speak 1.3.

    `websockets` reads on a thread of its own, and Python 3.11, for one, lets both threads into OpenSSL at once. In 1.3,
    where the server's tickets are read while the request is written, a request was seen to get lost now and then.
    """
    context = ssl.create_default_context(cafile=ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def scene(ca, url, options, protocols, steps, origin=None):
    try:
        with connect(
            url,
            ssl=trusting(ca) if url.startswith("wss:") else None,
            extensions=None if options is None else [ClientPerMessageDeflateFactory(**options)],
            subprotocols=protocols or None,
            origin=origin,
            compression=None,
            max_size=32 << 20,
            # No way round by a proxy that the environment names.
            proxy=None,
        ) as socket:
            return play(socket, steps)
    except InvalidHandshake as refused:
        return {"failed": str(refused)}


wanted = json.load(sys.stdin)
print(json.dumps([scene(wanted.get("ca"), **each) for each in wanted["scenes"]]))
