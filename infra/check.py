"""Checks the templates with the real Bicep compiler: format, lint, build, and the snapshot kept in git.

    python infra/check.py             check; without a compiler, warn that nothing was checked
    python infra/check.py --require   the same, but a missing compiler is a failure (for CI)
    python infra/check.py --update    write the snapshot after an intended change

The compiler is the program that the environment variable BICEP names, or `bicep` on PATH, or the one that
`az bicep install` has put into Azure's configuration folder.
"""

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

INFRA = Path(__file__).parent
REFERENCE = INFRA / "reference.bicepparam"
SNAPSHOT = INFRA / "reference.snapshot.json"

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
    """The compiler is missing or failed; the text is its output."""


def find_compiler() -> str | None:
    """The path of a Bicep compiler, or None if this machine has none.

    Raises CompilerError if BICEP names one that is missing: a check that was asked for is never skipped.
    """
    named = os.environ.get("BICEP")
    if named:
        if not (found := shutil.which(named)):
            raise CompilerError(f"BICEP names {named}, which is not a program that can be run.")
        return found
    azure = Path(os.environ.get("AZURE_CONFIG_DIR", "~/.azure")).expanduser() / "bin"
    return shutil.which("bicep") or shutil.which("bicep", path=azure)


def bicep(compiler: str, *arguments: str | Path) -> str:
    """Run the compiler and return its standard output.

    Raises CompilerError with its output if it fails or warns.
    """
    done = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0 or done.stderr.strip():
        raise CompilerError((done.stderr + done.stdout).strip())
    return done.stdout


def check_format(compiler: str) -> None:
    """Raises CompilerError, which names the files, if `bicep format` would change any."""
    with TemporaryDirectory() as folder:
        copy = copy_templates(Path(folder))
        bicep(compiler, "format", "--pattern", f"{copy}/*.bicep*")
        odd = [file.name for file in copy.glob("*.bicep*") if file.read_bytes() != (INFRA / file.name).read_bytes()]
    if odd:
        raise CompilerError(f"not formatted: {', '.join(sorted(odd))}; run `bicep format` on them")


def copy_templates(folder: Path) -> Path:
    """A copy of all that the compiler reads, in `folder`/infra."""
    unwanted = shutil.ignore_patterns("*.py", "__pycache__", "*.snapshot.json", "main.parameters.json")
    return Path(shutil.copytree(INFRA, folder / "infra", ignore=unwanted))


def snapshot(compiler: str, parameters: Path) -> dict[str, Any]:
    """Resolve the deployment that `parameters`, a .bicepparam file, describes.

    The compiler writes the result into a file beside `parameters`: the resources under `predictedResources`, the
    deployment's outputs under `outputs`.
    """
    bicep(compiler, "snapshot", parameters, "--mode", "overwrite", *DEPLOYMENT)
    resolved: dict[str, Any] = json.loads(parameters.with_suffix(".snapshot.json").read_text(encoding="utf-8"))
    return resolved


def check_snapshot(compiler: str, update: bool) -> None:
    """Raises CompilerError with the differences if the snapshot in git is another; with `update`, writes it first."""
    with TemporaryDirectory() as folder:
        resolved = snapshot(compiler, copy_templates(Path(folder)) / REFERENCE.name)
    # The compiler writes outputs in any order, which would show as a change in every review.
    resolved["outputs"] = dict(sorted(resolved["outputs"].items()))
    text = json.dumps(resolved, indent=2, ensure_ascii=False) + "\n"
    if update:
        SNAPSHOT.write_text(text, encoding="utf-8")
    kept = SNAPSHOT.read_text(encoding="utf-8")
    if kept != text:
        lines = difflib.unified_diff(kept.splitlines(), text.splitlines(), SNAPSHOT.name, "now", lineterm="")
        raise CompilerError("\n".join(lines) + "\nIf that is intended: python infra/check.py --update")


def main() -> int:
    """Run every check, print what fails, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--require", action="store_true", help="fail if there is no compiler")
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
        check_snapshot(compiler, options.update)
    except CompilerError as error:
        print(error, file=sys.stderr)
        return 1
    print("The templates are formatted, lint and build without a remark, and match the snapshot.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
