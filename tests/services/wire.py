"""A wire to a server that can be cut, as when the server starts anew."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOOPBACK = "127.0.0.1"


class Wire:
    """Passes bytes on to a port of this machine, while it is not cut."""

    def __init__(self, to: int) -> None:
        self._to, self._ends = to, list[socket.socket]()
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = socket.create_server((LOOPBACK, self.port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._take, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _take(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, there = listener.accept()[0], socket.create_connection((LOOPBACK, self._to))
                self._ends += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(come: socket.socket, go: socket.socket) -> None:
    with suppress(OSError):
        while data := come.recv(1 << 16):
            go.sendall(data)
        go.shutdown(socket.SHUT_WR)


@contextmanager
def wire(to: int) -> Iterator[Wire]:
    """A wire to a port, cut in the end."""
    made = Wire(to)
    try:
        yield made
    finally:
        made.cut()
