"""The service under uvicorn, in one process or several. Needs the packages of the extra `local`."""

import http.client
import multiprocessing.process
import signal
import socket
import sys
import threading
import time
from contextlib import closing, suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from licensing.cli.output import err
from licensing.cli.processes import StartError

READY_SECONDS = 60.0


class _OneProcess(uvicorn.Server):
    """The service in this process; sets an event when it has started."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._has_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set()


class _Processes(Multiprocess):
    """The service in several processes; a dead one is replaced. Sets an event when all have started."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], started: threading.Event) -> None:
        super().__init__(config, sockets)
        self._has_started = started

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(READY_SECONDS, self.should_exit) for process in self.processes):
            self._has_started.set()


def worker_app() -> ASGIApp:
    """The app in one of several processes. The process ends with the command that started it, even a killed one."""
    # Imported here: the command itself does not need the app.
    from licensing.api.app import local_app

    command = multiprocessing.parent_process()
    if command is not None:
        threading.Thread(target=_end_after, args=(command,), daemon=True).start()
    return local_app()


def _end_after(command: multiprocessing.process.BaseProcess) -> None:
    """Stop this process once the command has ended; otherwise it would keep the port."""
    command.join()
    signal.raise_signal(signal.SIGTERM)


def run_server(listening: socket.socket, port: int, workers: int) -> None:
    """Serve on a socket until Ctrl-C, and print the address once the service can reach its store."""
    config = uvicorn.Config(
        "licensing.api.app:local_app" if workers == 1 else "licensing.cli.server:worker_app",
        factory=True,
        workers=workers,
        # The access log would hold the callers' addresses.
        access_log=False,
        # LICENSING_TRUSTED_HOPS decides which proxies are trusted with the caller's address.
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        timeout_worker_healthcheck=30,
    )
    started = threading.Event()
    threading.Thread(target=_announce, args=(started, port), daemon=True).start()
    listening.listen(config.backlog)
    listening.set_inheritable(True)
    with suppress(KeyboardInterrupt):
        if workers == 1:
            _OneProcess(config, started).run([listening])
        else:
            _Processes(config, [listening], started).run()
    if not started.is_set():
        raise StartError("the service did not start; the messages above say why")


def _announce(started: threading.Event, port: int) -> None:
    """Print that the service is ready, once it has started and can reach its store."""
    started.wait()
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/api/health")
            if connection.getresponse().status == http.client.OK:
                sys.stdout.write(f"ready http://127.0.0.1:{port}/api\n")
                sys.stdout.flush()
                return
        time.sleep(0.1)
    err.print("The service has started, but it cannot reach its store.", style="bold red")
