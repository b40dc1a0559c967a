"""As much HTTP/2 as a hostile gRPC client needs: many calls on one connection, whose messages it sends in part. Standard library only."""
from __future__ import annotations

import select
import socket
import struct
import time

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_BYTES = 16384
WINDOW = 65535


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """A literal header field without indexing (RFC 7541, 6.2.2); both texts are under 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


# The head of a request that goes on and on: HEADERS without an end, and frames of type CONTINUATION.
CONTINUATION_FLOOD = frame(HEADERS, 0, 1, header(":method", "POST")) + frame(9, 0, 1, header("x", "y" * 100) * 100) * 100


class Call:
    def __init__(self, stream: int, message: bytes, length: int):
        self.stream = stream
        self.pending = b"\x00" + struct.pack(">I", length) + message  # gRPC's frame: not compressed, `length` bytes follow
        self.window = WINDOW
        self.sent = 0
        self.ended = False   # by the server
        self.received = b""


class Http2Client:
    """Calls are only moved by `run`."""

    def __init__(self, address: str):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.authority = address
        self.calls: dict[int, Call] = {}
        self.window = WINDOW
        self.initial_window = WINDOW
        self.buffer = b""
        self.closed = False
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))

    def __enter__(self) -> "Http2Client":
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.socket.close()

    def open(self, path: str, message: bytes, length: int | None = None, headers: dict | None = None) -> Call:
        """Begins a call whose message is said to have `length` bytes; `message` is what will be sent of it."""
        call = Call(2 * len(self.calls) + 1, message, len(message) if length is None else length)
        call.window = self.initial_window
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": self.authority, "content-type": "application/grpc",
                  "te": "trailers", **(headers or {})}
        self.calls[call.stream] = call
        self.send(frame(HEADERS, END_HEADERS, call.stream, b"".join(header(n, v) for n, v in fields.items())))
        return call

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        call = self.calls.get(stream)
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at:at + 6])
                if name == 4:
                    for other in self.calls.values():
                        other.window += value - self.initial_window
                    self.initial_window = value
            self.send(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            count = struct.unpack(">I", payload)[0] & 0x7FFFFFFF
            if stream == 0:
                self.window += count
            elif call is not None:
                call.window += count
        elif kind == GOAWAY:
            self.closed = True
        elif call is not None:
            if kind == DATA:
                call.received += payload
            if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
                call.ended = True

    def read(self, seconds: float) -> bool:
        """Takes what has come; whether anything did."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return False
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        self.closed = self.closed or not data
        self.buffer += data
        while len(self.buffer) >= 9:
            length = struct.unpack(">I", b"\0" + self.buffer[:3])[0]
            if len(self.buffer) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
            payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
            self.on_frame(kind, flags, stream & 0x7FFFFFFF, payload)
        return bool(data)

    def write(self) -> bool:
        """Sends what the windows let through; whether that was anything."""
        progress = False
        for call in self.calls.values():
            while call.pending and not call.ended and not self.closed:
                count = min(len(call.pending), call.window, self.window, FRAME_BYTES)
                if count <= 0:
                    break
                self.send(frame(DATA, 0, call.stream, call.pending[:count]))
                call.pending = call.pending[count:]
                call.sent += count
                call.window -= count
                self.window -= count
                progress = True
        return progress

    def run(self, until, seconds: float = 60) -> bool:
        """Until `until()` holds, the server hangs up or the time is over; whether it holds."""
        deadline = time.monotonic() + seconds
        while not until() and not self.closed and time.monotonic() < deadline:
            self.write()
            self.read(0.05)
        return until()
