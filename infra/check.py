"""Checks the templates with the real Bicep compiler: format, lint, build, and the snapshot kept in git.

    python infra/check.py             check; without a compiler, say loudly that nothing was checked
    python infra/check.py --require   the same, but a missing compiler is a failure (for CI)
    python infra/check.py --update    write the snapshot anew after a change that is meant

The compiler is the program that the environment variable BICEP names, or `bicep` on PATH, or the one that
`az bicep install` has put into Azure's configuration folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

INFRA = Path(__file__).parent
REFERENCE = INFRA / "reference.bicepparam"

# Made-up ids: a snapshot resolves `subscription()` and `tenant()` without asking anybody.
DEPLOYMENT = (
    "--subscription-id=00000000-0000-0000-0000-000000000001",
    "--tenant-id=00000000-0000-0000-0000-000000000002",
    "--location=northeurope",
    "--deployment-name=reference",
)

NO_COMPILER = """
************************************************************************
*  THE TEMPLATES WERE NOT CHECKED: there is no Bicep compiler here.     *
*  Install one (`az bicep install`), or name it: BICEP=/path/to/bicep   *
************************************************************************
"""


class CompilerError(Exception):
    """The compiler that was asked for is not there, or it ended with an error; the text is what it said."""


def find_compiler() -> str | None:
    """The path of a Bicep compiler, or None where this machine has none.

    Raises CompilerError when BICEP names one that is not there: a check that was asked for is never skipped.
    """
    named = os.environ.get("BICEP")
    if named:
        if not (found := shutil.which(named)):
            raise CompilerError(f"BICEP names {named}, which is not a program that can be run.")
        return found
    azure = Path(os.environ.get("AZURE_CONFIG_DIR", "~/.azure")).expanduser() / "bin"
    return shutil.which("bicep") or shutil.which("bicep", path=azure)


def bicep(compiler: str, *arguments: str | Path) -> str:
    """Run the compiler and return what it wrote to standard output.

    Raises CompilerError with its words when it fails or has any remark to make: warnings are errors.
    """
    done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0 or done.stderr.strip():
        raise CompilerError((done.stderr + done.stdout).strip())
    return done.stdout


def check_format(compiler: str) -> None:
    """Raises CompilerError naming the files that are not as `bicep format` would write them."""
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for file in (*INFRA.glob("*.bicep*"), INFRA / "bicepconfig.json"):
            shutil.copy(file, copy)
        bicep(compiler, "format", "--pattern", f"{copy}/*.bicep*")
        odd = [file.name for file in copy.iterdir() if file.read_bytes() != (INFRA / file.name).read_bytes()]
    if odd:
        raise CompilerError(f"not formatted: {', '.join(sorted(odd))}; run `bicep format` on them")


def snapshot(compiler: str, parameters: Path, mode: str) -> None:
    """Resolve the deployment that `parameters` describes, into `<its name>.snapshot.json` beside it.

    `mode` is `overwrite`, or `validate`: raises CompilerError with the differences from the file kept there.
    """
    bicep(compiler, "snapshot", parameters, "--mode", mode, *DEPLOYMENT)


def update_snapshot(compiler: str) -> None:
    """Write the snapshot that git keeps, with its outputs in order: the compiler's differs from run to run."""
    snapshot(compiler, REFERENCE, "overwrite")
    file = REFERENCE.with_suffix(".snapshot.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    content["outputs"] = dict(sorted(content["outputs"].items()))
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Run every check, tell what fails, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--require", action="store_true", help="fail where there is no compiler")
    arguments.add_argument("--update", action="store_true", help="write the snapshot anew")
    options = arguments.parse_args()

    try:
        compiler = find_compiler()
        if compiler is None:
            print(NO_COMPILER, file=sys.stderr)
            return 1 if options.require else 0
        check_format(compiler)
        # main.bicep brings every module with it. Building is what a deployment does first.
        bicep(compiler, "lint", INFRA / "main.bicep")
        bicep(compiler, "build", INFRA / "main.bicep", "--stdout")
        if options.update:
            update_snapshot(compiler)
        snapshot(compiler, REFERENCE, "validate")
    except CompilerError as error:
        print(error, file=sys.stderr)
        return 1
    print("The templates are formatted, lint and build without a remark, and match the snapshot.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
