"""The command line: results to standard output, progress and messages to standard error.

Exit codes: 0 done, 1 refused or not found, 2 wrong usage.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer import Option

import licensing
from licensing.cli.audit import audit
from licensing.cli.billing import billing
from licensing.cli.demo import demo
from licensing.cli.init import init
from licensing.cli.keys import commands as keys_commands
from licensing.cli.license import commands as license_commands
from licensing.cli.maintenance import commands as maintenance_commands
from licensing.cli.organization import commands as organization_commands
from licensing.cli.output import err
from licensing.cli.privacy import commands as privacy_commands
from licensing.cli.serve import serve
from licensing.cli.usage import usage
from licensing.errors import LicensingError, UnavailableError

app = typer.Typer(
    name="licensing",
    help="Issue licenses, run the service on this machine, and look after the register.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command()(serve)
app.command()(demo)
app.add_typer(license_commands, name="license")
app.add_typer(organization_commands, name="organization")
app.add_typer(keys_commands, name="keys")
app.command()(usage)
app.command()(billing)
app.command()(audit)
app.add_typer(privacy_commands, name="privacy")
app.add_typer(maintenance_commands, name="maintenance")


def _version(given: bool) -> None:
    if given:
        typer.echo(licensing.__version__)
        raise typer.Exit


@app.callback()
def root(
    home: Annotated[
        str | None, Option(metavar="DIR", help="Folder with keys and settings. Default: LICENSING_HOME, or .local.")
    ] = None,
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Handle the options that all commands share."""
    if home:
        os.environ["LICENSING_HOME"] = home


def main() -> None:
    """Run the command that the arguments name."""
    try:
        app(_home_first(sys.argv[1:]))
    except UnavailableError as error:
        err.print(f"The store cannot be used: {error}.", style="bold red")
    except LicensingError as error:
        err.print(f"{error}.", style="bold red")
    except KeyboardInterrupt:
        err.print("Stopped.")
    sys.exit(1)


def _home_first(arguments: Sequence[str]) -> list[str]:
    """Move --home before the command, since users may write it anywhere."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == "--home":
            first += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith("--home="):
            first.append(word)
        else:
            rest.append(word)
    return first + rest
