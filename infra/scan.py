"""Runs checkov on the deployment that the snapshot resolves; .checkov.yaml holds the skips and their reasons.

    path/to/checkov-environment/bin/python infra/scan.py

checkov cannot read templates that import types from one another, and takes a file that it cannot read for one
without faults. So it gets the resources themselves, as one ARM template, and a run without checks is a failure.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
SNAPSHOT = ROOT / "infra" / "reference.snapshot.json"
SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"


def main() -> int:
    """Print what fails, or how many checks have passed, and return the exit code."""
    resources = json.loads(SNAPSHOT.read_text(encoding="utf-8"))["predictedResources"]
    template = {"$schema": SCHEMA, "contentVersion": "1.0.0.0", "resources": resources}
    with TemporaryDirectory() as folder:
        (Path(folder) / "reference.json").write_text(json.dumps(template, indent=2), encoding="utf-8")
        checkov = Path(sys.executable).parent / "checkov"
        command: list[str | Path] = [
            checkov,
            "--config-file",
            ROOT / ".checkov.yaml",
            "--output",
            "json",
            "--directory",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        report = json.loads(done.stdout)
        summary = report["summary"]
    except (ValueError, KeyError, TypeError):
        print(f"checkov gave no report: {done.stderr.strip() or done.stdout.strip()}", file=sys.stderr)
        return 1
    for failed in report["results"]["failed_checks"]:
        print(f"{failed['check_id']} {failed['check_name']}: {failed['resource']}", file=sys.stderr)
    if summary["failed"] or summary["parsing_errors"] or not summary["passed"]:
        print(f"checkov: {summary}", file=sys.stderr)
        return 1
    print(f"checkov: {summary['passed']} checks passed on {summary['resource_count']} resources.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
