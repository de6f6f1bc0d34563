"""A server that keeps each HTTP request as the bytes that arrived, and answers so that clients go on."""

from __future__ import annotations

import base64
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

LONGEST_HEAD = 256 * 1024


@dataclass(frozen=True)
class Request:
    """One request: header names in the case and the order in which they were sent."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    framing: str
    time: datetime

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def query(self) -> dict[str, str]:
        parameters = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        parameters.update(parse_qs(self.body.decode("latin-1")) if self.is_form() else {})
        return {name: values[-1] for name, values in parameters.items()}

    def is_form(self) -> bool:
        return (self.header("content-type") or "").startswith("application/x-www-form-urlencoded")

    def operation(self) -> str:
        """The operation, of whichever of the two services."""
        target = self.header("x-amz-target")
        if target:
            return target.removeprefix("TrentService.")
        return self.query().get("Action") or self.header("x-acs-action") or ""


@dataclass(frozen=True)
class Reply:
    status: int
    content_type: str
    body: bytes


Answer = Callable[[Request], Reply]


class Recorder:
    """Listens on a free port of 127.0.0.1, on its own thread, from `with` to its end."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._seen: list[Request] = []
        self._lock = threading.Lock()
        recorder = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (request := _read(self.rfile, self.connection)) is not None:
                    recorder._keep(request)
                    self.wfile.write(_written(recorder._answer(request)))

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, request: Request) -> None:
        with self._lock:
            self._seen.append(request)

    def take(self) -> list[Request]:
        """The requests since the last call, in the order of their arrival."""
        with self._lock:
            seen, self._seen = self._seen, []
        return seen


def _read(stream: object, connection: socket.socket) -> Request | None:
    """One request off a connection, or None where the client has closed it."""
    lines: list[bytes] = []
    while True:
        line = stream.readline(LONGEST_HEAD)
        if not line:
            return None
        if line == b"\r\n":
            break
        lines.append(line.removesuffix(b"\r\n"))
    method, target, _version = lines[0].decode("latin-1").split(" ")
    headers = [_header(line) for line in lines[1:]]
    named = {name.lower(): value for name, value in headers}
    if named.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body, framing = _body(stream, named)
    return Request(method, target, headers, body, framing, datetime.now(UTC))


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1"), value.decode("utf-8").removeprefix(" ")


def _body(stream: object, headers: dict[str, str]) -> tuple[bytes, str]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(stream.readline().split(b";")[0], 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body, "chunked"
    if "content-length" in headers:
        return stream.read(int(headers["content-length"])), "content-length"
    return b"", "none"


def _written(reply: Reply) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} OK\r\nContent-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n\r\n"
    )
    return head.encode() + reply.body


def vector(request: Request, client: str, version: str, operation: str, key: tuple[str, str]) -> dict[str, object]:
    """What a file of `tests/vectors/requests` holds."""
    return {
        "client": client,
        "version": version,
        "operation": operation,
        "method": request.method,
        "target": request.target,
        "headers": [list(header) for header in request.headers],
        "bodyBase64": base64.b64encode(request.body).decode(),
        "framing": request.framing,
        "accessKeyId": key[0],
        "secret": key[1],
        "time": request.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def as_text(content: dict[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
