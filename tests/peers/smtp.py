"""A mail server to send to: takes every message over SMTP as it comes, byte for byte. Source: RFC 5321."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

LONGEST_LINE = 998
"""RFC 5322 section 2.1.1; servers refuse longer ones."""


@dataclass(frozen=True)
class Message:
    """What one sender said: the envelope, and the lines of the message with stuffed dots taken out."""

    sender: str
    recipients: tuple[str, ...]
    lines: tuple[bytes, ...]

    @property
    def headers(self) -> tuple[bytes, ...]:
        """The lines in front of the first empty one."""
        return self.lines[: self.lines.index(b"")]

    @property
    def body(self) -> tuple[bytes, ...]:
        """The lines behind it."""
        return self.lines[self.lines.index(b"") + 1 :]


class Sink:
    """Listens on a socket that the test opened where it wants it."""

    def __init__(self, listening: socket.socket) -> None:
        self.messages: list[Message] = []
        self.faults: list[str] = []
        self._listening = listening
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it, whoever is connected."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            with connected, connected.makefile("rwb") as stream:
                connected.settimeout(10)
                try:
                    self._talk(stream)
                except OSError as exc:
                    self.faults.append(repr(exc))

    def _talk(self, stream: BinaryIO) -> None:
        def say(text: str) -> None:
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        sender, recipients = "", []
        say("220 sink.example")
        while line := stream.readline():
            verb = line.split(None, 1)[0].upper()
            told = line.decode().partition("<")[2].partition(">")[0]
            if verb == b"EHLO":
                say("250 sink.example")
            elif verb == b"MAIL":
                sender, recipients = told, []
                say("250 ok")
            elif verb == b"RCPT":
                recipients.append(told)
                say("250 ok")
            elif verb == b"DATA":
                say("354 go on")
                lines = self._take(stream.readline)
                self.messages.append(Message(sender, tuple(recipients), lines))
                say("250 ok")
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                self.faults.append(f"a command that nobody sends: {line!r}")
                say("500 what?")

    def _take(self, readline: Callable[[], bytes]) -> tuple[bytes, ...]:
        lines = []
        while (line := readline()) not in (b".\r\n", b""):
            if not line.endswith(b"\r\n") or len(line) > LONGEST_LINE + 2 or b"\r" in line[:-2]:
                self.faults.append(f"a line that is none: {line[:80]!r}")
            lines.append(line[:-2].removeprefix(b"."))
        return tuple(lines)
