"""`licensing serve`: the service on this machine, over Azurite or over the store that LICENSING_STORAGE names."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from typer import Option

from licensing.cli import processes
from licensing.cli.context import MAKE_A_HOME, home
from licensing.cli.home import TABLE_PORT, local_storage
from licensing.cli.output import err
from licensing.errors import SettingsError
from licensing.settings import Settings, names_store


def serve(
    port: Annotated[int, Option(min=1, max=65535, help="Port of the service on 127.0.0.1.")] = 7071,
    table_port: Annotated[
        int | None, Option(min=1, max=65535, help="Port of Azurite on 127.0.0.1. Default: the home's, or 10002.")
    ] = None,
    workers: Annotated[int, Option(min=1, help="Number of processes on one store, like instances in the cloud.")] = 1,
    data: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder that keeps the register over restarts. Default: in memory only."),
    ] = None,
) -> None:
    """Run the service, and Azurite under it, until Ctrl-C.

    If LICENSING_STORAGE or LICENSING_STORAGE__tableServiceUri is set, the service uses that store, without Azurite.
    If this command is killed (SIGKILL), its workers end too, but Azurite goes on and keeps its port.
    """
    processes.require_local_extra()
    # Imported here, since its packages come with the extra and no other command needs them.
    from licensing.cli.server import run_server

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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM ends Azurite, too
    with ExitStack() as cleanup:
        listening = cleanup.enter_context(processes.listening_socket(port, "the service"))
        if own_store:
            cleanup.callback(processes.stop, processes.start_azurite(own_port, data))
        run_server(listening, port, workers)
    err.print("Stopped.")


def _check_settings() -> None:
    """Fail here with one line, instead of in each worker with a traceback."""
    try:
        Settings.load(os.environ)
    except SettingsError as error:
        # An error about a missing home that was named already says how to make one.
        hint = "" if home().initialized or os.environ.get("LICENSING_HOME") else f" ({MAKE_A_HOME})"
        raise SettingsError(f"{error}{hint}") from None
