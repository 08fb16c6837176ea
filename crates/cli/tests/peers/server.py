"""Servers made of `websockets`, which do what server.js says.

Stdin: first a line {servers: [options of ServerPerMessageDeflateFactory, or null], tls: {cert, key} or null}.
"""

import json
import ssl
import sys
import threading
from urllib.parse import unquote

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.sync.server import serve

COUNTS = {"opened": 0, "messages": 0, "extended": 0, "closes": []}
LOCK = threading.Lock()


def behaviour(socket, name, *rest):
    match name:
        case "echo":
            return socket.send
        case "sink":
            return lambda message: None
        case "fragments":
            return lambda message: socket.send(thirds(message))
        case "close":
            code, reason = int(rest[0]), unquote("".join(rest[1:]))
            return lambda message: socket.close(code, reason)
        case "ping":
            socket.ping("are you there", ack_on_close=False).wait()
            socket.send("pong are you there")
            return socket.send
    raise ValueError(f"no such path: {name}")


def thirds(message):
    third = -(-len(message) // 3)
    return [message[i * third : (i + 1) * third] for i in range(3)]


def connected(socket):
    with LOCK:
        COUNTS["opened"] += 1
        COUNTS["extended"] += bool(socket.protocol.extensions)
    try:
        behave = behaviour(socket, *socket.request.path[1:].split("/"))
        while True:
            message = socket.recv()
            with LOCK:
                COUNTS["messages"] += 1
            behave(message)
    except ConnectionClosed as closed:
        received = closed.rcvd
        with LOCK:
            COUNTS["closes"].append([received.code, received.reason] if received else [1006, ""])


def tell(socket, request):
    if "Upgrade" in request.headers:
        return None
    with LOCK:
        opened, messages, ended = COUNTS["opened"], COUNTS["messages"], len(COUNTS["closes"])
    page = f'ws_opened_total{{by="websockets"}} {opened}.0\nws_open {opened - ended}.0\n'
    return socket.respond(200, page + f'ws_messages_total{{kind="data"}} {messages}.0\n')


def listen(options, tls):
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls["cert"], tls["key"])
    server = serve(
        connected,
        "127.0.0.1",
        0,
        ssl=context,
        extensions=None if options is None else [ServerPerMessageDeflateFactory(**options)],
        compression=None,
        process_request=tell,
        max_size=32 << 20,
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.socket.getsockname()[1]


def main():
    wanted = json.loads(sys.stdin.readline())
    print(json.dumps([listen(options, wanted["tls"]) for options in wanted["servers"]]), flush=True)
    for _ in sys.stdin:
        with LOCK:
            print(json.dumps(COUNTS), flush=True)


main()
