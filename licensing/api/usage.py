"""The customer's operations: the usage page, and the report that it shows."""

import re
from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import HTMLResponse, Response

from licensing.api import metrics, problems, schemas
from licensing.api.pages.usage import usage_page
from licensing.api.routes import service_of
from licensing.crypto.tokens import ReportPass, read_report_pass
from licensing.errors import Flaw, TokenError
from licensing.rules.report import Format, Now, Report, to_csv, to_json
from licensing.services.now import LicenseNow
from licensing.services.reports import newest_day, oldest_day, span

router = APIRouter(prefix="/api")

DEFAULT_DAYS = 90
CSV_ROWS = (
    "CSV: of each license a row for each day, then one for each month that is over, then one for each number of seats "
    "that might do: it has a `day`, a `month` or `sizing_seats`. The last have, for the last year, the whole hours "
    "used, the starts that took a seat, and how many of both would have been short of these seats. "
    "A cell is empty where the total would tell the times of few people. "
    "A text that a spreadsheet would run as a formula begins with an apostrophe"
)


def _iso_day(text: object) -> object:
    # Pydantic takes numbers for seconds since 1970.
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise PydanticCustomError("day", "write a day as in 2026-11-30")
    return text


Day = Annotated[date, BeforeValidator(_iso_day)]


@router.get("/usage", summary="The customer's usage page", response_class=HTMLResponse, responses=problems.documented())
async def usage(_: Request) -> Response:
    """A page whose script reads the report's token from the URL's fragment, which never reaches a log."""
    page = usage_page()
    return HTMLResponse(page.html, headers={"Content-Security-Policy": page.csp})


@router.get(
    "/usage/data",
    response_model=Report,
    responses={
        200: {"model": Report, "content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems.documented("token-invalid", "storage-unavailable"),
    },
    summary="The figures of an organization's licenses",
    openapi_extra=schemas.asks_for("report"),
)
async def usage_data(
    request: Request,
    first: Annotated[Day | None, Query(alias="from", description="the first UTC day; by default 90 back")] = None,
    last: Annotated[
        Day | None, Query(alias="to", description="the last UTC day; at most, and by default, yesterday")
    ] = None,
    format: Annotated[Literal["json", "csv"], Query(description=CSV_ROWS)] = "json",  # noqa: A002
) -> Response:
    """Figures of days and months that are over. Days are kept for a year; by default the reply has the last 90.

    A day is reported half an hour after it is over, of licenses with longer leases later. What would tell the times of
    fewer than `small_group` people is null. A license appears with the first day on which it was used. `now` is as in
    `usage/now`; the CSV has nothing of it.
    """
    service = service_of(request)
    now = service.clock()
    try:
        report_pass = _report_pass(request, now)
        zone = _zone(report_pass.time_zone)
    except TokenError as error:
        return problems.not_genuine("token-invalid", error)
    days = span(first, last, DEFAULT_DAYS, now)
    if days is None:
        kept = f"There are figures of the days from {oldest_day(now)} to {newest_day(now)}"
        return problems.problem("malformed-request", f"{kept}; the first must not come after the last.")
    report = service.reports.report(await service.reports.cached(report_pass.organization_id), *days, zone)
    if Format(format) is Format.CSV:
        return Response(to_csv(report), media_type="text/csv")
    licenses = await service.current_use.of_licenses(usage.id for usage in report.licenses)
    return Response(to_json(_as_of_now(report, report_pass, licenses)), media_type="application/json")


class LicenseNowReply(BaseModel):
    """A license as it stands; `now` is null if it takes no seats."""

    id: str
    now: Now | None


class NowReply(BaseModel):
    """The licenses of an organization as they stand."""

    licenses: list[LicenseNowReply]


@router.get(
    "/usage/now",
    response_model=NowReply,
    responses=problems.documented("token-invalid", "storage-unavailable"),
    summary="How an organization's licenses stand now",
    openapi_extra=schemas.asks_for("report"),
)
async def usage_now(request: Request) -> Response:
    """Seats in use, seats bought, who waits, and whether a seat is free, as of at most 10 seconds ago.

    The numbers are null if fewer than `small_group` people were active within the last 30 days that are over. Then
    only `free` is told. A license appears with the first day on which it was used.
    """
    service = service_of(request)
    try:
        report_pass = _report_pass(request, service.clock())
    except TokenError as error:
        return problems.not_genuine("token-invalid", error)
    licenses = await service.current_use.of_organization(report_pass.organization_id)
    reply = NowReply(licenses=[LicenseNowReply(id=each.license_id, now=each.now) for each in licenses])
    return Response(reply.model_dump_json(), media_type="application/json")


class MetricsResponse(Response):
    """OpenMetrics text."""

    media_type = metrics.MEDIA_TYPE


@router.get(
    "/usage/metrics",
    response_class=MetricsResponse,
    responses=problems.documented("token-invalid", "storage-unavailable"),
    summary="How an organization's licenses stand now, for its monitoring",
    openapi_extra=schemas.asks_for("report"),
)
async def usage_metrics(request: Request) -> Response:
    """OpenMetrics: what `usage/now` tells, the starts refused this month, and when each license ends.

    The labels are `license` and `product`. What `usage/now` has as null has no sample. Refusals are those of the days
    that `usage/data` tells of.
    """
    service = service_of(request)
    try:
        report_pass = _report_pass(request, service.clock())
    except TokenError as error:
        return problems.not_genuine("token-invalid", error)
    licenses = await service.current_use.of_organization(report_pass.organization_id)
    refusals = await service.refusals.of_organization(report_pass.organization_id)
    text = metrics.metrics_text(licenses, refusals)
    return MetricsResponse(text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _report_pass(request: Request, now: datetime) -> ReportPass:
    """The pass in a request's report token. Raises TokenError if that is not good at `now`."""
    return read_report_pass(schemas.bearer_token(request), service_of(request).settings.issuer_keys, now)


def _as_of_now(report: Report, report_pass: ReportPass, licenses: list[LicenseNow]) -> Report:
    """A report with what stands now, and with the end of the link that asked for it."""
    now = {each.license_id: each.now for each in licenses}
    of_licenses = tuple(usage.model_copy(update={"now": now.get(usage.id)}) for usage in report.licenses)
    return report.model_copy(update={"licenses": of_licenses, "link_until": report_pass.expires_at})


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise TokenError(Flaw.MALFORMED, "names a time zone that is not known here") from None
