"""The customer's report over HTTP: who may read it, that it is true, and what reading costs."""

import asyncio
import csv
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from licensing.cli.home import Home
from licensing.rules.license import Kind
from licensing.rules.model import LicenseState
from licensing.rules.totals import aggregate_day
from licensing.rules.usage import Denial, Use
from licensing.services.reports import oldest_day
from licensing.storage import register as rows
from licensing.storage.tables import Tables, put
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import at, terms, use
from tests.reference import ReferenceTotals
from tests.register_rows import Customer, new_customer
from tests.stores import StorageCalls

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
TODAY: Final = NOW.date()
FEW: Final = ("sessions", "users", "hosts", "seat_seconds", "peak_at", "overdraft_seconds")
"""What a day of few people does not tell."""
TOTALS: Final = ("sessions", "users", "hosts", "seat_seconds", "peak", "denials", "waits", "overdraft_seconds")


@pytest.fixture
def customer(tables: Tables) -> Customer:
    """A new customer, who has not used its license yet."""
    return new_customer(tables)


@pytest.fixture
async def service(home: Home, azurite: str) -> AsyncIterator[Api]:
    """An app at `NOW`, with an empty cache."""
    async with running(factories.settings(home, azurite), lambda: NOW) as opened:
        yield opened


def token(home: Home, organization: str, **claims: Any) -> str:
    """A report token that is good at `NOW`."""
    return factories.report_token(home, organization, **{"exp": int(NOW.timestamp()) + 60, **claims})


def ago(days: int) -> date:
    """A day so many days before `NOW`."""
    return TODAY - timedelta(days=days)


# Who may read the report.


async def test_a_genuine_token_opens_the_totals_of_its_organization(
    service: Api, home: Home, customer: Customer
) -> None:
    await customer.used([use("s", at(ago(1), 8), at(ago(1), 9))])

    reply = await service.usage(token(home, customer.organization))

    assert reply.status_code == 200
    report = reply.json()
    assert report["organization"] == {"id": customer.organization, "name": "Acme Water Oy"}
    assert (report["from"], report["to"]) == (str(ago(90)), str(ago(1)))
    assert [license["id"] for license in report["licenses"]] == [customer.license]
    assert report["generated_at"] == "2026-11-24T12:00:00Z"


@pytest.mark.parametrize(
    "flaw", ["none", "expired", "expires now", "altered", "another's key", "cut short", "no organization", "no zone"]
)
async def test_a_token_that_is_not_good_opens_nothing(
    service: Api, home: Home, customer: Customer, tmp_path: Any, flaw: str
) -> None:
    await customer.used()
    organization = customer.organization
    good = token(home, organization)
    header, payload, signature = good.split(".")
    bad, says = {
        "none": ("", "damaged"),
        "expired": (token(home, organization, exp=int(NOW.timestamp()) - 1), "expired"),
        "expires now": (token(home, organization, exp=int(NOW.timestamp())), "expired"),
        "altered": (f"{header}.{token(home, 'brook').split('.')[1]}.{signature}", "forged"),
        "another's key": (token(factories.new_home(tmp_path / "other"), organization), "not trusted"),
        "cut short": (f"{header}.{payload}", "damaged"),
        "no organization": (token(home, "no id"), "no link"),
        "no zone": (token(home, organization, time_zone="Mars/Olympus"), "time zone"),
    }[flaw]

    problem = assert_problem(await service.usage(bad), "token-invalid", 401)

    assert says in problem["detail"]
    assert (await service.usage(good)).status_code == 200


async def test_a_license_or_a_lease_is_no_token_for_a_report_nor_the_other_way(api: Api, home: Home) -> None:
    organization = {"id": factories.new_id("org"), "name": "Acme"}
    license = factories.issue(home, organization=organization)
    session, lease = await api.begin(license)
    report = factories.report_token(home, organization["id"])

    for other in (license, lease):
        problem = assert_problem(await api.usage(other), "token-invalid", 401)
        assert "of another type" in problem["detail"] or "not trusted" in problem["detail"]
    assert_problem(await api.heartbeat(session, report), "lease-invalid", 401)
    assert_problem(await api.start(factories.start_body(report)), "license-invalid", 401)
    assert (await api.usage(report)).status_code == 200


async def test_a_token_in_the_address_is_not_accepted(service: Api, home: Home, customer: Customer) -> None:
    await customer.used()

    reply = await service.send("GET", "/usage/data", params={"token": token(home, customer.organization)})

    assert_problem(reply, "token-invalid", 401)


async def test_another_organizations_totals_are_never_seen(service: Api, home: Home, tables: Tables) -> None:
    # Each id is the beginning of the next, as key ranges would confuse them.
    stem = factories.new_id("org")
    for name in (stem, f"{stem}-2", f"{stem}0"):
        other = Customer(tables, terms(organization_id=name, organization_name=name), f"{name}-water")
        await other.used([use("s", at(ago(30), 8), at(ago(30), 9))])

    for name in (stem, f"{stem}-2", f"{stem}0"):
        report = (await service.usage(token(home, name))).json()
        assert report["organization"] == {"id": name, "name": name}
        assert [license["id"] for license in report["licenses"]] == [f"{name}-water"]
        assert [month["users"] for month in report["months"]] == [1]


async def test_a_customer_who_has_not_begun_sees_that_and_no_error(service: Api, home: Home) -> None:
    organization = factories.new_id("org")

    reply = await service.usage(token(home, organization))

    assert reply.status_code == 200
    assert reply.json()["licenses"] == reply.json()["months"] == []
    assert reply.json()["organization"] == {"id": organization, "name": organization}


# What is asked for.


async def test_days_are_reported_from_the_first_to_the_last(service: Api, home: Home, customer: Customer) -> None:
    await customer.used([use(f"s{number}", at(ago(number), 8), at(ago(number), 9)) for number in range(1, 40)])

    async def days(**query: str) -> list[str]:
        reply = await service.usage(token(home, customer.organization), **query)
        assert reply.status_code == 200, reply.text
        days = [day["day"] for day in reply.json()["licenses"][0]["days"]]
        assert (reply.json()["from"], reply.json()["to"]) == (days[0], days[-1])
        return days

    def every(first: int, last: int) -> list[str]:
        return [str(ago(number)) for number in range(first, last - 1, -1)]

    assert await days(from_=str(ago(9)), to=str(ago(2))) == every(9, 2)
    assert await days(from_=str(ago(9))) == every(9, 1)
    assert await days(to=str(ago(2))) == every(91, 2)
    assert await days(from_=str(ago(3)), to=str(TODAY)) == every(3, 1)
    assert await days(from_=str(ago(3)), to="2099-01-01") == every(3, 1)


@pytest.mark.parametrize("to", [None, str(TODAY), "2099-01-01"])
async def test_of_a_day_that_is_not_over_nothing_is_reported_yet(
    service: Api, home: Home, customer: Customer, to: str | None
) -> None:
    await customer.used([use("s", at(TODAY, 8), None)])

    reply = await service.usage(token(home, customer.organization), from_=str(TODAY), **({"to": to} if to else {}))

    assert reply.status_code == 200
    (license,) = reply.json()["licenses"]
    assert (license["days"], license["months"], license["busy"]) == ([], [], None)
    assert license["verdict"]["state"] == "not-over"
    assert (reply.json()["from"], reply.json()["to"]) == (str(TODAY), str(TODAY))


async def test_of_days_that_are_no_longer_kept_nothing_is_reported_rather_than_no_use(
    service: Api, home: Home, customer: Customer
) -> None:
    await customer.used([use("s", at(ago(1), 8), at(ago(1), 9))])

    report = (await service.usage(token(home, customer.organization), from_="2000-01-01")).json()

    assert (report["from"], report["to"]) == ("2025-11-24", str(ago(1)))
    problem = assert_problem(
        await service.usage(token(home, customer.organization), from_="2000-01-01", to="2025-11-23"),
        "malformed-request",
        400,
    )
    assert "2025-11-24" in problem["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {"from_": "yesterday"},
        {"from_": "2026-11-31"},
        {"from_": "1796040000"},
        {"to": "7"},
        {"to": ""},
        {"to": "2026-11-24T12:00:00Z"},
        {"to": "0001-01-01"},
        {"from_": "2026-11-20", "to": "2026-11-19"},
        {"from_": "2026-11-25"},
        {"from_": "9999-12-31", "to": "9999-12-31"},
        {"format": "html"},
        {"format": "JSON"},
        {"format": ""},
    ],
    ids=str,
)
async def test_what_cannot_be_asked_for_is_refused_with_advice(
    service: Api, home: Home, customer: Customer, query: dict[str, str]
) -> None:
    await customer.used()

    reply = await service.usage(token(home, customer.organization), **query)

    problem = assert_problem(reply, "malformed-request", 400)
    for sent in query.values():
        assert not sent or sent in str(TODAY) or sent not in problem["detail"]


async def test_the_csv_has_a_row_for_each_day_and_month_of_a_license(
    service: Api, home: Home, customer: Customer
) -> None:
    october = date(2026, 10, 30), date(2026, 10, 31)
    people = [use(f"s{n}", at(october[1], 8), at(october[1], 9.5)) for n in range(3)]
    await customer.used([*people, use("lone", at(october[0], 8), at(october[0], 9))])
    asked = {"from_": str(october[0]), "to": str(october[1])}

    reply = await service.usage(token(home, customer.organization), format="csv", **asked)
    report = (await service.usage(token(home, customer.organization), **asked)).json()

    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    *rows, sizing = csv.DictReader(reply.text.splitlines())
    assert [row["day"] or row["month"] for row in rows] == [*map(str, october), "2026-10"]
    assert {row["license"] for row in [*rows, sizing]} == {customer.license}
    assert (sizing["day"], sizing["month"], sizing["sizing_seats"], sizing["sizing_hours"]) == ("", "", "3", "2")
    (license,) = report["licenses"]
    for row, totals in zip(rows, [*license["days"], *license["months"]], strict=True):
        assert {name: row[name] for name in TOTALS} == {
            name: "" if totals[name] is None else str(totals[name]) for name in TOTALS
        }
    assert [row["seat_seconds"] for row in rows] == ["", "16200", ""]  # the month's would tell the lone person's


async def test_openapi_says_which_totals_may_be_null(service: Api) -> None:
    schemas = (await service.send("GET", "/openapi.json")).json()["components"]["schemas"]

    def nullable(schema: str) -> set[str]:
        members = schemas[schema]["properties"].items()
        return {name for name, member in members if {"type": "null"} in member.get("anyOf", ())}

    exact = {"sessions", "users", "hosts", "seat_seconds", "peak_at", "overdraft_seconds", "grace_seconds", "ran_peak"}
    assert nullable("DayUsage") == exact
    assert nullable("MonthUsage") == {*schemas["MonthUsage"]["properties"]} - {"month", "users"}
    assert "busy" in nullable("LicenseUsage")


# That they are true.


def eventful() -> tuple[list[Use], list[Denial]]:
    """Two months with midnight crossers, a session of a week, refusals, overdraft, and sessions that run."""
    uses = [
        use("week", at(ago(20), 9), at(ago(13), 17), "ada"),
        use("crossing", at(ago(3), 22), at(ago(2), 3), "bob"),
        use("over", at(ago(3), 23), at(ago(2), 1), "cid", overdraft=True),
        use("early", at(date(2026, 10, 31), 20), at(date(2026, 11, 1), 4), "dan"),
        use("open", at(ago(1), 10), None, "ada"),
        use("today", at(TODAY, 8), at(TODAY, 11), "eva"),
        use("waited", at(ago(3), 9.2), at(ago(3), 10), "fay"),
    ]
    uses += [use(f"d{n}", at(ago(n), 6 + n % 9), at(ago(n), 8 + n % 9), f"u{n % 5}") for n in range(1, 45, 2)]
    uses += [use(f"e{n}", at(ago(n), 7), at(ago(n), 7 + n % 3), f"v{n % 3}") for n in range(1, 45, 3)]
    uses += [use(f"f{n}", at(ago(n), 9), at(ago(n), 11), f"w{n % 4}") for n in range(1, 45, 5)]
    refused = [Denial("waited", at(ago(3), 9)), Denial("gone", at(ago(2), 9)), Denial("gone", at(TODAY, 9))]
    return uses, refused


@pytest.mark.parametrize("nights", [(), (24,), (10, 24)], ids=["no night yet", "after a night", "after some nights"])
async def test_totals_equal_what_the_sessions_say(
    service: Api, home: Home, customer: Customer, nights: tuple[int, ...]
) -> None:
    uses, refused = eventful()
    await customer.used(uses, refused, NOW)
    for day in nights:
        await customer.night(datetime(2026, 11, day, 2, 30, tzinfo=UTC))

    report = (await service.usage(token(home, customer.organization))).json()

    (license,) = report["licenses"]
    reference = ReferenceTotals(uses, refused, NOW, tick=timedelta(minutes=1))
    few = 0
    names: tuple[str, ...]
    for day in license["days"]:
        expected = reference.day(date.fromisoformat(day["day"]))
        if 0 < expected["users"] < 3:  # type: ignore[operator]
            few += 1
            names = ("peak",)
            assert {name: day[name] for name in FEW} == dict.fromkeys(FEW)
        else:
            names = TOTALS
        assert {name: day[name] for name in names} == {name: expected[name] for name in names}, day["day"]
    assert len(license["days"]) == 90
    assert 10 < few < 80
    (month,) = license["months"]
    assert month["month"] == "2026-10"  # this month is not over
    expected = reference.month("2026-10")
    assert {name: month[name] for name in TOTALS} == {name: expected[name] for name in TOTALS}
    assert report["months"] == [{"month": "2026-10", "users": month["users"]}]


async def test_final_days_come_from_their_rows_and_later_ones_from_the_sessions(
    service: Api, home: Home, customer: Customer
) -> None:
    def people(day: date, length: int) -> list[Use]:
        return [use(f"{day}-{n}", at(day, 8), at(day, 8 + length)) for n in range(3)]

    await customer.used(each for n in (0, 1, 2) for each in people(ago(n), 1))
    await customer.night(at(ago(1), 2.5))
    totals = aggregate_day(ago(2), people(ago(2), 7), (), NOW).totals
    kept = put(rows.day_key(totals.day), rows.DAYS.encode(totals))
    await customer.tables.commit("register", customer.license, [kept])

    report = (await service.usage(token(home, customer.organization), from_=str(ago(2)))).json()

    assert [day["seat_seconds"] for day in report["licenses"][0]["days"]] == [3 * 7 * 3600, 3 * 3600]


async def test_a_session_over_http_is_reported_when_its_day_is_over_and_not_before(home: Home, azurite: str) -> None:
    organization = factories.new_id("org")
    license = factories.issue(home, organization={"id": organization, "name": "Acme"}, seats=2)
    report_token = factories.report_token(home, organization)
    clock = factories.Clock()
    async with running(factories.settings(home, azurite), clock) as api:
        session, lease = await api.begin(license)
        assert (await api.usage(report_token)).json()["licenses"] == []
        assert (await api.end(session, lease)).status_code == 204
    day = clock.now.date()
    clock.now = at(day + timedelta(days=1), 0.75)
    async with running(factories.settings(home, azurite), clock) as api:
        (ended,) = (await api.usage(report_token)).json()["licenses"]

    assert (ended["days"][-1]["day"], ended["days"][-1]["users"]) == (str(day), None)


async def test_no_answer_changes_while_a_day_goes_on(home: Home, customer: Customer, azurite: str) -> None:
    """Neither by use, nor by a refusal that turns out to have waited, nor by an end."""
    await customer.used(
        [
            use("a", at(ago(1), 22), at(TODAY, 3)),
            use("b", at(ago(1), 23.9), at(TODAY, 0.1)),
            use("c", at(TODAY, 5), None),
        ],
        [Denial("b", at(ago(1), 23.8)), Denial("c", at(TODAY, 4.9))],
        at(TODAY, 18),
    )
    report_token = factories.report_token(home, customer.organization, exp=int(NOW.timestamp()) + 86400)
    answers = set()
    clock = factories.Clock()
    for hour in (0.55, 2, 4, 6, 12, 18, 23.99):
        clock.now = at(TODAY, hour)
        async with running(factories.settings(home, azurite), clock) as api:
            for query in ({}, {"from_": str(TODAY)}, {"from_": str(ago(1)), "to": str(ago(1))}):
                report = (await api.usage(report_token, **query)).json()
                del report["generated_at"]
                for license in report["licenses"]:
                    del license["now"]  # tests/api/test_now.py
                answers.add((str(query), str(report)))
    assert len(answers) == 3


async def test_each_person_counts_once_in_a_month_over_all_licenses(
    service: Api, home: Home, customer: Customer, tables: Tables
) -> None:
    other = new_customer(tables, organization_id=customer.organization)
    day = date(2026, 10, 30)
    await customer.used([use("a", at(day, 8), at(day, 9), "ada"), use("b", at(day, 8), at(day, 9), "bob")])
    await other.used([use("c", at(day, 8), at(day, 9), "bob"), use("d", at(day, 8), at(day, 9), "cid")])

    report = (await service.usage(token(home, customer.organization))).json()

    assert report["months"] == [{"month": "2026-10", "users": 3}]
    assert [license["months"][0]["users"] for license in report["licenses"]] == [2, 2]


async def test_a_month_that_is_final_for_some_licenses_only_still_counts_the_others_people(
    service: Api, home: Home, customer: Customer, tables: Tables
) -> None:
    other = new_customer(tables, organization_id=customer.organization)
    last = date(2026, 10, 30)
    await customer.used([use("a", at(last, 8), at(last, 9), "ada"), use("b", at(last, 8), at(last, 9), "bob")])
    await other.used([use("c", at(last, 8), at(last, 9), "cid")])
    await customer.night(at(ago(1), 2.5), other)
    # A lease of some days kept this license's totals from being final.
    unfinished = put(rows.STATE, {**rows.STATES.encode(LicenseState(other.terms)), rows.FINAL_DAY: "2026-10-29"})
    await tables.commit("register", other.license, [unfinished])

    report = (await service.usage(token(home, customer.organization))).json()

    assert report["months"] == [{"month": "2026-10", "users": 3}]


# A license that was not always in force, and one of which nothing is known.


async def test_a_license_was_not_idle_before_it_began_nor_after_it_ended(
    service: Api, home: Home, tables: Tables
) -> None:
    customer = new_customer(
        tables,
        valid_from=datetime(2026, 11, 2, tzinfo=UTC),
        valid_until=datetime(2026, 11, 14, tzinfo=UTC),  # so that the 13th is its last day
        seats=1,
    )
    await customer.used([use("s", at(date(2026, 11, 3), 8), at(date(2026, 11, 3), 9))])

    (license,) = (await service.usage(token(home, customer.organization))).json()["licenses"]

    assert [day["day"] for day in license["days"]] == [f"2026-11-{day:02}" for day in range(2, 14)]
    assert license["verdict"]["sentence"].startswith("The one seat was taken on 1 of 10 working days")


async def test_a_renewed_license_did_not_begin_with_its_newest_file(service: Api, home: Home, tables: Tables) -> None:
    customer = new_customer(tables, valid_from=at(ago(5), 0))
    await customer.used([use("a", at(ago(200), 8), at(ago(200), 9)), use("b", at(ago(1), 8), at(ago(1), 9))])

    (license,) = (await service.usage(token(home, customer.organization), from_=str(ago(9)))).json()["licenses"]

    assert [day["day"] for day in license["days"]] == [str(ago(number)) for number in range(9, 0, -1)]


async def test_a_license_that_is_not_recorded_is_not_called_idle(service: Api, home: Home, tables: Tables) -> None:
    customer = new_customer(tables, kind=Kind.NAMED_USER, seats=0)
    await customer.used(collect=False)

    (license,) = (await service.usage(token(home, customer.organization))).json()["licenses"]

    assert license["days"] == []
    assert license["verdict"]["state"] == "unrecorded"
    assert "not recorded" in license["verdict"]["sentence"]


async def test_a_small_groups_month_tells_its_users_alone(service: Api, home: Home, customer: Customer) -> None:
    long_ago, days = date(2025, 8, 5), (date(2026, 10, 5), date(2026, 10, 6))
    await customer.used([use("s", at(long_ago, 8), at(long_ago, 9)), *(use(f"{d}", at(d, 8), at(d, 9)) for d in days)])
    await customer.night(NOW)

    (license,) = (await service.usage(token(home, customer.organization))).json()["licenses"]

    old, new = license["months"]
    assert old == {**dict.fromkeys(old), "month": "2025-08", "users": 1}
    assert (new["month"], new["sessions"], new["seat_seconds"]) == ("2026-10", 2, 7200)


async def test_nobody_can_be_distinguished(service: Api, home: Home, customer: Customer) -> None:
    await customer.used([use("s", at(ago(1), 8), at(ago(1), 9), "pseudonym-of-ada")])

    for format_ in ("json", "csv"):
        reply = await service.usage(token(home, customer.organization), format=format_)
        assert "pseudonym" not in reply.text
        assert "T08" not in reply.text  # when a lone person worked


# Hours.


@pytest.mark.parametrize(
    ("zone", "weekday", "hours"),
    [("UTC", 0, [22]), ("Europe/Helsinki", 1, [0]), ("America/New_York", 0, [17]), ("Asia/Kolkata", 1, [3, 4])],
)
async def test_the_time_zone_in_the_token_moves_the_busy_hours_and_not_the_days(
    service: Api, home: Home, customer: Customer, zone: str, weekday: int, hours: list[int]
) -> None:
    monday = date(2026, 11, 23)
    await customer.used([use(f"s{n}", at(monday, 22), at(monday, 22.75)) for n in range(3)])

    report = (await service.usage(token(home, customer.organization, time_zone=zone))).json()

    (license,) = report["licenses"]
    busy = {(day, hour) for day, of in enumerate(license["busy"]) for hour, each in enumerate(of) if each}
    assert busy == {(weekday, hour) for hour in hours}
    assert report["time_zone"] == zone
    assert [day["day"] for day in license["days"] if day["sessions"]] == ["2026-11-23"]
    assert license["days"][-1]["peak_at"] == "2026-11-23T22:00:00Z"


# What asking costs.


async def test_asking_again_and_again_costs_no_reading_of_totals_for_a_minute(
    home: Home, azurite: str, customer: Customer, storage_calls: StorageCalls
) -> None:
    await customer.used([use("s", at(ago(1), 8), at(ago(1), 9))])
    now = [NOW]
    good = token(home, customer.organization, exp=int(NOW.timestamp()) + 3600)
    async with running(factories.settings(home, azurite), lambda: now[0]) as service:
        before = await storage_calls.mark()
        replies = await asyncio.gather(*(service.usage(good) for _ in range(50)))
        first = await storage_calls.since(before)
        assert {reply.text for reply in replies} == {replies[0].text}
        assert 0 < len(first) < 50

        now[0] += timedelta(seconds=59)
        before = await storage_calls.mark()
        for query in ({}, {"from_": str(ago(3))}, {"to": str(ago(2))}, {"format": "csv"}):
            assert (await service.usage(good, **query)).status_code == 200
        assert len(await storage_calls.since(before)) == 1  # how the license stands now

        now[0] += timedelta(seconds=2)
        before = await storage_calls.mark()
        assert (await service.usage(good)).json()["generated_at"] == "2026-11-24T12:01:01Z"
        assert len(await storage_calls.since(before)) == len(first) - 3  # that, and how many people use it


async def test_a_new_customers_year_costs_no_call_for_each_day_of_it(
    service: Api, home: Home, customer: Customer, storage_calls: StorageCalls
) -> None:
    await customer.used([use("s", at(ago(1), 8), at(ago(1), 9))])

    before = await storage_calls.mark()
    await service.usage(token(home, customer.organization), from_="2025-11-24")

    assert len(await storage_calls.since(before)) < 20


async def test_a_forged_token_costs_the_store_nothing(
    service: Api, customer: Customer, storage_calls: StorageCalls
) -> None:
    before = await storage_calls.mark()

    assert (await service.usage("a.b.c")).status_code == 401

    assert await storage_calls.since(before) == []


async def test_a_reading_that_failed_is_not_cached(
    service: Api, home: Home, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await customer.used()
    good = token(home, customer.organization)

    async def broken(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(service.service.reports, "read", broken)
        replies = await asyncio.gather(*(service.usage(good) for _ in range(5)))
        assert {reply.status_code for reply in replies} == {503}

    assert (await service.usage(good)).status_code == 200


def test_the_oldest_day_of_a_leap_year_is_a_year_back() -> None:
    assert oldest_day(datetime(2028, 2, 29, 23, tzinfo=UTC)) == date(2027, 3, 1)
