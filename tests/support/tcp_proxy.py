"""A TCP proxy on the loopback that can be cut and silenced: a network that fails."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class TcpProxy:
    """Forwards connections to `target` on the loopback. Thread-safe; close it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._left: int | None = None  # bytes to the target until everything is cut
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="tcp-proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones until `mend`."""
        self._open.clear()
        with self._lock:
            for pair in self._pairs:
                _shut(pair)

    def cut_within(self, count: int) -> None:
        """`cut` once a single connection has carried `count` more bytes to the target: in the
        middle of whatever it is sending then."""
        self._left = count

    def mend(self) -> None:
        self._left = None
        self._open.set()

    def silence(self) -> None:
        """Deliver nothing until `speak`; connections stay, as behind a router that loses all."""
        self._flowing.clear()

    def speak(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.speak()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self._open.is_set():
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._forward, args=(pair,), daemon=True).start()

    def _forward(self, pair: tuple[socket.socket, socket.socket]) -> None:
        near, far = pair
        other = {near: far, far: near}
        sent = 0  # while it counts
        try:
            with selectors.DefaultSelector() as selector:
                for one in pair:
                    selector.register(one, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(65536)
                        self._flowing.wait()
                        if not data:
                            return
                        if source is near and self._left is not None:
                            sent += len(data)
                            if sent > self._left:
                                self.cut()
                                return
                        other[source].sendall(data)
        except OSError:
            return
        finally:
            with self._lock:
                self._pairs.discard(pair)
            _shut(pair)
            for one in pair:
                one.close()


def _shut(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
