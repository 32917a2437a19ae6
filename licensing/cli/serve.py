"""`licensing serve`: the service on this machine, over Azurite or over the store that LICENSING_STORAGE names."""

import http.client
import multiprocessing.process
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from licensing.cli import processes
from licensing.cli.context import MAKE_A_HOME, err, home
from licensing.cli.home import TABLE_PORT, local_storage
from licensing.errors import SettingsError
from licensing.settings import Settings, names_store

READY_SECONDS = 60.0


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the service listens, on 127.0.0.1.")] = 7071,
    table_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Where Azurite listens, on 127.0.0.1. Default: as in the home, or 10002."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on one store, as the cloud's instances.")] = 1,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the register here over restarts; else in memory only.")
    ] = None,
) -> None:
    """Run the service, and Azurite under it, until Ctrl-C.

    With LICENSING_STORAGE (or LICENSING_STORAGE__tableServiceUri) set, that store is used and no Azurite is started.
    Where this command is killed outright, its workers end with it; its Azurite goes on and keeps its port.
    """
    own_store = not names_store(os.environ)
    own_port = table_port or (home().table_port() if home().initialized else TABLE_PORT)
    if own_store:
        os.environ["LICENSING_STORAGE"] = local_storage(own_port)
    if home().initialized:
        os.environ["LICENSING_HOME"] = str(home().folder)
    _check_settings()
    for option, given in (("--table-port", table_port), ("--data", data)):
        if given is not None and not own_store:
            err.print(f"{option} is not used: it is for Azurite, and the environment names another store.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that Azurite is ended in that case, too
    with processes.listening_socket(port, "the service") as listening, _store(own_store, own_port, data):
        _serve(listening, port, workers)
    err.print("Stopped.")


def _check_settings() -> None:
    """Fail here with one line, and not in each worker with many."""
    try:
        Settings.load(os.environ)
    except SettingsError as fault:
        # A home that is named, and not there, is told of by the fault itself.
        hint = "" if home().initialized or os.environ.get("LICENSING_HOME") else f" ({MAKE_A_HOME})"
        raise SettingsError(f"{fault}{hint}") from None


@contextmanager
def _store(own: bool, port: int, data: Path | None) -> Iterator[None]:
    if not own:
        yield
        return
    azurite = processes.start_azurite(port, data)
    try:
        yield
    finally:
        processes.stop(azurite)


class _OneProcess(uvicorn.Server):
    """The service in this process; says when it has started."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._has_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set()


class _Processes(Multiprocess):
    """The service in several processes, of which a dead one is replaced; says when all have started."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], started: threading.Event) -> None:
        super().__init__(config, sockets)
        self._has_started = started

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(READY_SECONDS, self.should_exit) for process in self.processes):
            self._has_started.set()


def worker_app() -> ASGIApp:
    """The app in one of several processes, which ends with the command that started it, however that ended."""
    # Only here: no other command has a use for the app.
    from licensing.api.app import local_app

    command = multiprocessing.parent_process()
    if command is not None:
        threading.Thread(target=_end_after, args=(command,), daemon=True).start()
    return local_app()


def _end_after(command: multiprocessing.process.BaseProcess) -> None:
    """Stop this process in order once that which started it is gone, which else would be left with the port."""
    command.join()
    signal.raise_signal(signal.SIGTERM)


def _serve(listening: socket.socket, port: int, workers: int) -> None:
    config = uvicorn.Config(
        "licensing.api.app:local_app" if workers == 1 else "licensing.cli.serve:worker_app",
        factory=True,
        workers=workers,
        # Its access log would hold the callers' addresses.
        access_log=False,
        # Whom the service believes about the caller's address is for LICENSING_TRUSTED_HOPS to say.
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
        raise processes.StartError("the service did not start; the messages above say why")


def _announce(started: threading.Event, port: int) -> None:
    """Say that the service is ready, once it has started and can reach its store."""
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
