"""The metrics over HTTP, read by the library's own parser of OpenMetrics, and by Prometheus' where this machine has it.

`apt-get install prometheus` brings `promtool`, which no package of PyPI or npm does.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import REGISTRY
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from licensing.api import metrics
from licensing.cli.home import Home
from licensing.rules.license import Kind
from licensing.rules.model import LicenseState
from licensing.rules.usage import DAY, Denial, Use
from licensing.storage.tables import Tables
from tests import factories
from tests.api.client import CONTRACT, NOW, ROOT, Api, running
from tests.factories import Clock, at, use
from tests.register_rows import Customer, new_customer
from tests.stores import StorageCalls

TODAY: Final = NOW.date()
ODD: Final = 'Fluidit "Water" \\ n\\{a="b",} # 3.0 \N{MATHEMATICAL DOUBLE-STRUCK CAPITAL X} é'
GRAFANA: Final = ROOT / "examples" / "grafana"
KINDS: Final = {
    "licensing_seats_in_use": "gauge",
    "licensing_seats": "gauge",
    "licensing_waiting": "gauge",
    "licensing_seat_free": "gauge",
    "licensing_license_end_timestamp_seconds": "gauge",
    "licensing_starts_refused": "counter",
}
Samples = dict[tuple[str, str], float]


@pytest.fixture
def customer(tables: Tables) -> Customer:
    """A new customer, of a product with an odd name."""
    return new_customer(tables, product=ODD, valid_until=datetime(2027, 1, 1, tzinfo=UTC))


def token(home: Home, customer: Customer) -> str:
    """A report token that is good for a month from `NOW` on."""
    return factories.report_token(home, customer.organization, exp=int((NOW + 30 * DAY).timestamp()))


def day_of(count: int, day: date) -> list[Use]:
    """So many people worked on a day, all at once."""
    return [use(f"{day}-{n}", at(day, 8), at(day, 9), f"user-{n}") for n in range(count)]


def parsed(text: str) -> list[Metric]:
    """The families of a reply. The parser refuses what is no OpenMetrics."""
    assert text.endswith("# EOF\n")
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


async def samples(service: Api, home: Home, customer: Customer) -> Samples:
    """The values by license and name."""
    reply = await service.metrics(token(home, customer))
    assert reply.status_code == 200, reply.text
    return {(each.labels["license"], each.name): each.value for family in parsed(reply.text) for each in family.samples}


async def test_the_reply_is_openmetrics_with_these_names_and_labels(
    service: Api, home: Home, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await customer.used(day_of(3, TODAY - DAY), in_use=2)
    monkeypatch.setattr(service.service.ledger, "waiting", lambda _: 4)

    reply = await service.metrics(token(home, customer))

    assert reply.headers["content-type"] == CONTENT_TYPE_LATEST
    families = parsed(reply.text)
    assert {family.name: family.type for family in families} == KINDS
    found = [sample for family in families for sample in family.samples]
    assert {tuple(sample.labels.items()) for sample in found} == {(("license", customer.license), ("product", ODD))}
    assert {sample.name.removeprefix("licensing_"): sample.value for sample in found} == {
        "seats_in_use": 2,
        "seats": 3,
        "waiting": 4,
        "seat_free": 0,
        "license_end_timestamp_seconds": datetime(2027, 1, 1, tzinfo=UTC).timestamp(),
        "starts_refused_total": 0,
        "starts_refused_created": datetime(2026, 11, 1, tzinfo=UTC).timestamp(),
    }


async def test_a_license_that_takes_no_seats_has_its_end_alone(service: Api, home: Home, tables: Tables) -> None:
    customer = new_customer(tables, kind=Kind.NAMED_USER, seats=0)
    await customer.used(day_of(3, TODAY - DAY))

    assert [name for _, name in await samples(service, home, customer)] == ["licensing_license_end_timestamp_seconds"]


async def test_without_a_license_there_are_metrics_without_samples(
    service: Api, home: Home, customer: Customer
) -> None:
    reply = await service.metrics(token(home, customer))

    assert {family.name: family.samples for family in parsed(reply.text)} == {name: [] for name in KINDS}


async def test_nothing_is_left_in_the_process(service: Api, home: Home, customer: Customer) -> None:
    await customer.used(day_of(3, TODAY - DAY))

    assert await samples(service, home, customer) == await samples(service, home, customer)
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("licensing")]


async def test_a_new_files_product_shows_the_day_after_its_first_use(
    service: Api, home: Home, tables: Tables, customer: Customer, clock: Clock
) -> None:
    renewed = LicenseState(customer.terms).under(replace(customer.terms, product="Water 2", serial=2), at(TODAY, 0))
    await Customer(tables, renewed.terms, customer.license).used(former=renewed.former, since=at(TODAY - 9 * DAY, 0))
    for moment, product in ((NOW, ODD), (at(TODAY + DAY, 12), "Water 2")):
        clock.now = moment
        families = parsed((await service.metrics(token(home, customer))).text)
        assert {sample.labels["product"] for family in families for sample in family.samples} == {product}


# Refusals.


def refused(day: date, count: int) -> list[Denial]:
    """So many starts were refused on a day."""
    return [Denial(factories.new_session_id(), at(day, 8.5)) for _ in range(count)]


async def test_refusals_are_those_that_the_report_tells_of_this_month(
    service: Api, home: Home, customer: Customer
) -> None:
    days = {date(2026, 10, 30): (3, 1), date(2026, 11, 2): (3, 2), date(2026, 11, 20): (4, 4), TODAY: (3, 8)}
    alone = date(2026, 11, 5)  # a single person, whose refusal is withheld: seats were free
    denials = [each for day, (_, count) in days.items() for each in refused(day, count)]
    uses = [each for day, (people, _) in days.items() for each in day_of(people, day)]
    await customer.used([*uses, *day_of(1, alone)], [*denials, *refused(alone, 16)])

    found = await samples(service, home, customer)
    report = (await service.usage(token(home, customer), from_="2026-11-01")).json()

    assert found[customer.license, "licensing_starts_refused_total"] == 6
    assert sum(day["denials"] for day in report["licenses"][0]["days"]) == 6


async def test_the_last_day_of_a_month_counts_before_the_next_month_begins(
    service: Api, home: Home, customer: Customer, clock: Clock
) -> None:
    last, first = date(2026, 11, 30), date(2026, 12, 1)
    denials = [*refused(last - DAY, 1), *refused(last, 2), *refused(first, 4)]
    await customer.used([each for day in (last - DAY, last, first) for each in day_of(3, day)], denials)
    for moment, number, month in (
        (at(last, 23), 1, date(2026, 11, 1)),
        (at(first, 0.6), 3, date(2026, 11, 1)),
        (at(first, 23), 3, date(2026, 11, 1)),
        (at(first + DAY, 0.6), 4, first),
    ):
        clock.now = moment
        found = await samples(service, home, customer)
        assert found[customer.license, "licensing_starts_refused_total"] == number, moment
        assert found[customer.license, "licensing_starts_refused_created"] == at(month, 0).timestamp()


async def test_each_license_has_the_month_of_its_own_newest_day(
    service: Api, home: Home, tables: Tables, customer: Customer
) -> None:
    """Of a license with a lease of 30 days, no day of this month is reported yet."""
    late = new_customer(tables, organization_id=customer.organization, lease_seconds=30 * factories.DAY)
    for each in (customer, late):
        days = (date(2026, 10, 20), date(2026, 11, 20))
        denials = [*refused(days[0], 1), *refused(days[1], 2)]
        await each.used([use for day in days for use in day_of(3, day)], denials)

    found = await samples(service, home, customer)

    assert found[customer.license, "licensing_starts_refused_total"] == 2
    assert found[late.license, "licensing_starts_refused_total"] == 1
    assert found[late.license, "licensing_starts_refused_created"] == at(date(2026, 10, 1), 0).timestamp()


async def test_no_process_goes_back_to_the_day_before(
    home: Home, azurite: str, customer: Customer, clock: Clock
) -> None:
    """Of two processes, one has read right before the day was reported, and the other right after."""
    day = TODAY - DAY
    await customer.used(day_of(3, day), refused(day, 2))
    seen = []
    settings = factories.settings(home, azurite)
    async with running(settings, clock) as one, running(settings, clock) as other:
        for service, minutes in ((one, 29.9), (other, 30.1), (one, 30.2), (other, 44), (one, 59)):
            clock.now = at(TODAY, minutes / 60)
            seen.append((await samples(service, home, customer))[customer.license, "licensing_starts_refused_total"])

    assert seen == [0, 2, 2, 2, 2]


async def test_the_reading_of_refusals_serves_a_quarter_of_an_hour(
    service: Api, home: Home, customer: Customer, clock: Clock, storage_calls: StorageCalls
) -> None:
    await customer.used(day_of(3, TODAY - DAY))
    first = await samples(service, home, customer)
    for seconds, more in ((899, False), (1, True)):
        clock.forward(seconds)
        mark = await storage_calls.mark()
        assert await samples(service, home, customer) == first
        assert (len(await storage_calls.since(mark)) > 2) == more  # besides the licenses' list and the state


# The dashboard.


def expressions() -> list[str]:
    """What the panels of the dashboard ask for, with a license chosen."""
    board = json.loads((GRAFANA / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    (variable,) = (each["query"]["query"] for each in board["templating"]["list"] if each["name"] == "license")
    found = re.fullmatch(r"label_values\((\w+), license\)", variable)
    assert found, variable
    return [*(expression.replace("$license", "acme-1") for expression in asked), found[1]]


async def test_the_dashboard_asks_for_what_the_service_gives(service: Api, home: Home, customer: Customer) -> None:
    text = await reply_of(service, home, customer)
    given = {sample.name for family in parsed(text) for sample in family.samples}

    asked = {name for expression in expressions() for name in re.findall(r"licensing_\w+", expression)}

    assert asked == given - {"licensing_starts_refused_created"}


def scrape_config() -> str:
    """What the example's README says that Prometheus is configured with."""
    (config,) = re.findall(r"```yaml\n(.*?)```", (GRAFANA / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(config)


def test_the_scrape_configuration_names_the_operation() -> None:
    assert ("GET", re.findall(r"metrics_path: (\S+)", scrape_config())[0]) in CONTRACT.operations()


# Read by Prometheus.


def promtool(*arguments: str, text: str, where: Path) -> str:
    """What Prometheus' tool says of a text; the test fails if it says that it is wrong."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("NOT CHECKED BY PROMETHEUS: there is no promtool on this machine (apt-get install prometheus)")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=False, cwd=where)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class Collected:
    """Families for a registry of the library."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self.families


async def reply_of(service: Api, home: Home, customer: Customer) -> str:
    """A reply with a sample of each metric."""
    await customer.used(day_of(3, TODAY - DAY), in_use=2)
    text = (await service.metrics(token(home, customer))).text
    assert all(family.samples for family in parsed(text))
    return text


async def test_prometheus_finds_nothing_to_improve(
    service: Api, home: Home, customer: Customer, tmp_path: Path
) -> None:
    """Its lint reads the older text format, to which the library translates."""
    registry = CollectorRegistry()
    registry.register(Collected(parsed(await reply_of(service, home, customer))))

    assert promtool("check", "metrics", text=generate_latest(registry).decode(), where=tmp_path) == ""


async def test_prometheus_reads_the_reply(service: Api, home: Home, customer: Customer, tmp_path: Path) -> None:
    """By its own parser of OpenMetrics, which wants times where it takes a file."""
    text = await reply_of(service, home, customer)
    lines = [f"{line} {NOW.timestamp():.0f}" if line[0] != "#" else line for line in text.splitlines()]
    (tmp_path / "metrics").write_text("\n".join(lines) + "\n", encoding="utf-8")

    said = promtool("tsdb", "create-blocks-from", "openmetrics", "metrics", "blocks", text="", where=tmp_path)

    samples_read = re.findall(r"^\S+ +\d+ +\d+ +\S+ +(\d+)", said, re.MULTILINE)
    assert samples_read == [str(len([line for line in lines if line[0] != "#"]))]


def test_prometheus_understands_the_dashboard_and_the_configuration(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{place}", "expr": expression} for place, expression in enumerate(expressions())]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    (tmp_path / "token").touch()
    config = scrape_config().replace("/etc/prometheus/licensing.token", "token")
    (tmp_path / "prometheus.yml").write_text(config, encoding="utf-8")

    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", text="", where=tmp_path)
    assert f"{len(rules)} rules found" in promtool("check", "rules", "rules.json", text="", where=tmp_path)


def test_a_text_that_is_not_openmetrics_is_refused_here() -> None:
    for text in ("licensing_seats 1\n", "# TYPE a counter\na 1\n# EOF\n", 'a{license="x} 1\n# EOF\n'):
        with pytest.raises((ValueError, AssertionError)):
            parsed(text)


def test_the_names_are_those_of_the_code() -> None:
    assert KINDS.keys() == {*metrics.SEATS, metrics.END, metrics.REFUSED}
