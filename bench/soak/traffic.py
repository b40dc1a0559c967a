"""The load of the soak: clients of several kinds, each of which knows what the right answer is."""
from __future__ import annotations

import collections
import dataclasses
import http.client
import json
import random
import socket
import threading

WORDS = "creature window river lantern machine garden winter letter sailor copper".split()
ANSWER_SECONDS = 240


@dataclasses.dataclass(frozen=True)
class Question:
    """A request whose answer is always the same: greedy, or sampled with a seed."""
    path: str
    body: str  # JSON without "stream"

    def streamed(self) -> bytes:
        return json.dumps({**json.loads(self.body), "stream": True}).encode()


def questions(model: str, count: int, longest: int, random_: random.Random) -> list[Question]:
    found = []
    for number in range(count):
        text = " ".join(random_.choice(WORDS) for _ in range(random_.choice((2, 8, 30, 120))))
        body = {"model": model, "max_tokens": random_.randint(4, longest)}
        body |= random_.choice(({"temperature": 0}, {"temperature": 1, "seed": number}))
        if random_.random() < 0.2:
            body |= {"n": 2, "seed": number}
        if number % 2:
            found.append(Question("/v1/chat/completions", json.dumps({**body, "messages": [{"role": "user", "content": text}]})))
        else:
            extra = {"logprobs": 2} if random_.random() < 0.3 else {}
            found.append(Question("/v1/completions", json.dumps({**body, "prompt": text, **extra})))
    return found


def texts_of(answer: dict) -> tuple[str, ...]:
    """What the choices of an answer, or of an event of a stream, say, in the order of their index."""
    texts: dict[int, str] = {}
    for choice in answer.get("choices", []):
        part = choice.get("text")
        if part is None:
            part = (choice.get("message") or choice.get("delta") or {}).get("content") or ""
        texts[choice["index"]] = part
    return tuple(texts.get(i, "") for i in range(max(texts, default=-1) + 1))


class Counts:
    """What came of the requests. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_kind: collections.Counter = collections.Counter()
        self.busy = 0
        self.lost: list[str] = []

    def done(self, kind: str) -> None:
        with self.lock:
            self.by_kind[kind] += 1

    def refused(self) -> None:
        with self.lock:
            self.busy += 1

    def lose(self, why: str) -> None:
        with self.lock:
            self.lost.append(why)

    @property
    def total(self) -> int:
        with self.lock:
            return sum(self.by_kind.values())


class Client(threading.Thread):
    """Asks one question after another in random ways until the end. What it gets must be what is right, or a refusal that says so."""

    def __init__(self, address: str, asked: list[Question], answers: dict[Question, tuple[str, ...]], counts: Counts, seed: int,
                 pause: float, stop: threading.Event):
        super().__init__(daemon=True)
        self.address, self.asked, self.answers, self.counts, self.stopping = address, asked, answers, counts, stop
        self.random, self.pause = random.Random(seed), pause
        self.kinds = {self.whole: 30, self.stream: 40, self.leave: 8, self.half_close: 3, self.bad: 6, self.head_only: 5, self.look: 8}

    def run(self) -> None:
        while not self.stopping.is_set():
            kind = self.random.choices(list(self.kinds), list(self.kinds.values()))[0]
            question = self.random.choice(self.asked)
            try:
                kind(question)
                self.counts.done(kind.__name__)
            except Exception as error:  # whatever went wrong is a request that was lost
                self.counts.done(kind.__name__)
                self.counts.lose(f"{kind.__name__} {question.path}: {type(error).__name__}: {error}")
            self.stopping.wait(self.random.expovariate(1 / self.pause) if self.pause > 0 else 0)

    def ask(self, question: Question, body: bytes) -> http.client.HTTPResponse | None:
        """The response, after refusals that say that there is no room; None when it is time to end."""
        while not self.stopping.is_set():
            connection = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS)
            connection.request("POST", question.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status not in (429, 503):
                return response
            response.read()
            connection.close()
            if response.getheader("Retry-After") is None:
                raise AssertionError(f"{response.status} without Retry-After")
            self.counts.refused()
            self.stopping.wait(float(response.getheader("Retry-After")))
        return None

    def expect(self, question: Question, found: tuple[str, ...]) -> None:
        if found != self.answers[question]:
            raise AssertionError(f"expected {self.answers[question]!r}, found {found!r}")

    def whole(self, question: Question) -> None:
        response = self.ask(question, question.body.encode())
        if response is None:
            return
        text = response.read()
        if response.status != 200:
            raise AssertionError(f"{response.status}: {text[:300]!r}")
        self.expect(question, texts_of(json.loads(text)))

    def stream(self, question: Question) -> None:
        response = self.ask(question, question.streamed())
        if response is None:
            return
        if response.status != 200:
            raise AssertionError(f"{response.status}: {response.read()[:300]!r}")
        texts: list[str] = []
        ended = False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            ended = line[6:].strip() == b"[DONE]"
            event = {} if ended else json.loads(line[6:])
            if "error" in event:
                raise AssertionError(f"in the stream: {event['error']}")
            for index, text in enumerate(texts_of(event)):
                texts += [""] * (index + 1 - len(texts))
                texts[index] += text
        if not ended:
            raise AssertionError("the stream ended before [DONE]")
        self.expect(question, tuple(texts))

    def leave(self, question: Question) -> None:
        """Goes in the middle of a stream."""
        response = self.ask(question, question.streamed())
        if response is not None:
            response.readline()
            response.close()

    def half_close(self, question: Question) -> None:
        """Sends a whole request, says that it sends no more, and goes without reading."""
        body = question.streamed()
        with self.connect() as connection:
            connection.sendall(f"POST {question.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.shutdown(socket.SHUT_WR)

    def connect(self) -> socket.socket:
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)

    def head_only(self, question: Question) -> None:
        """Begins a request and goes."""
        with self.connect() as connection:
            connection.sendall(f"POST {question.path} HTTP/1.1\r\nHost: localhost\r\nContent-Le".encode())

    def bad(self, question: Question) -> None:
        body = self.random.choice((b"{", b"[" * 2000, b'{"model": 1}', b"\xff" * 100, json.dumps({"model": "nobody"}).encode()))
        response = self.ask(question, body)
        if response is not None and response.status not in (400, 404):
            raise AssertionError(f"a bad request got {response.status}")

    def look(self, question: Question) -> None:
        for path in ("/healthz", "/metrics", "/v1/models"):
            connection = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS)
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status not in (200, 503):
                raise AssertionError(f"{path} got {response.status}")
