"""The HTTP server process: uvicorn, and a shutdown that ends event streams first.

uvicorn waits for open responses before it tells the application to shut down, and an event stream
ends only when its job does. So the streams are told at the beginning of the shutdown.
"""

from __future__ import annotations

import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from service.app import create_app
from service.events import EventBus
from service.http.connections import connection_factory
from service.settings import ServiceSettings
from workers.logs import configure

# Requests still running this long after the shutdown began are cut off.
_GRACEFUL_SECONDS = 15
# For so long a thread that computes may keep the interpreter while the event loop waits for it
# (Python: 5 ms). Threads of jobs, of requests and of the Dask scheduler compute beside the loop.
_SWITCH_SECONDS = 0.001


class Server(uvicorn.Server):
    """A uvicorn server of one Gramian application. `on_started` is called when it serves."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        log_level: str = "info",
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app = create_app(settings)
        self._on_started = on_started
        self._events: EventBus = app.state.events
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_level=log_level,
                timeout_graceful_shutdown=_GRACEFUL_SECONDS,
                # The identity and version of the server are nobody's business.
                server_header=False,
                http=connection_factory(settings),
                h11_max_incomplete_event_size=settings.max_request_head_bytes,
                # As JSON everything goes through the one handler that `serve` sets up.
                log_config=None if settings.log_format == "json" else LOGGING_CONFIG,
            )
        )

    @property
    def bound_port(self) -> int:
        """The port that is listened on: chosen by the system when the setting is 0."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal begins an orderly shutdown, a second SIGINT cuts it short.

        uvicorn would also raise the signal again at the end, so that an orderly stop would look
        to a supervisor like a process that was killed.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.close()
        await super().shutdown(sockets)


def _allow_many_files() -> None:
    """As many open files as this process may have: connections need one each, and many systems
    begin with 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system that sets no limit refuses it as a soft one.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_the_loop_prompt() -> None:
    """What stops all threads of a process, and so every request, made short.

    A full garbage collection looks at everything that is alive; here that is a quarter of a
    million objects of libraries, which never go, and takes 0.2 s. Frozen, they are left out.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


def serve(settings: ServiceSettings, *, log_level: str = "info") -> bool:
    """Serve until SIGINT or SIGTERM; False if the application could not start.

    The caller needs the `if __name__ == "__main__"` guard: the embedded cluster spawns processes.
    """
    configure(settings.log_format, log_level.upper())
    _allow_many_files()
    server = Server(settings, log_level=log_level, on_started=_keep_the_loop_prompt)
    server.run()
    return server.started
