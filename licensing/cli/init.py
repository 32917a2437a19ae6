"""`licensing init`: makes a home with new keys."""

from typing import Annotated

from typer import Option

from licensing.cli.context import home
from licensing.cli.home import TABLE_PORT, Issuer
from licensing.cli.options import service_url
from licensing.cli.output import err, fail


def init(
    issuer: Annotated[str, Option(help="Your name as the vendor, for license files.")] = "fluidit",
    service: Annotated[
        str, Option(metavar="URL", help="URL at which programs reach the service.")
    ] = "http://127.0.0.1:7071/api",
    table_port: Annotated[
        int, Option(min=1, max=65535, help="Port of Azurite on this machine, for a local service.")
    ] = TABLE_PORT,
) -> None:
    """Make a home: the keys, the pepper and the settings in a new folder. Nothing is overwritten."""
    here = home()
    try:
        here.create(Issuer(issuer, service_url(service)), table_port)
    except FileExistsError:
        fail(f"{here.folder} is not empty; nothing in it was changed.")
    except OSError as error:
        fail(f"{here.folder} cannot be made: {error.strerror}.")
    err.print(f"Made keys and settings in {here.folder}. Back it up, and show it to nobody.")
    err.print("Next: `licensing license issue`, `licensing serve`.")
