"""The customer's operations: the page on the use of its licenses, and the figures on it."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import HTMLResponse, Response

from licensing.api import problems
from licensing.api.pages.usage import usage_page
from licensing.api.routes import service_of
from licensing.crypto.tokens import read_report_pass
from licensing.errors import Flaw, TokenFault
from licensing.rules.report import Report, to_csv, to_json
from licensing.services.reports import last_days

router = APIRouter(prefix="/api")

USUAL_DAYS = 90
MOST_DAYS = 400

ReportToken = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(scheme_name="report", description="the token of a report's link", auto_error=False)),
]


class Format(StrEnum):
    """In which form figures are wanted."""

    JSON = "json"
    CSV = "csv"


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
)
async def usage_data(
    request: Request,
    first: Annotated[date | None, Query(alias="from", description="the first UTC day")] = None,
    last: Annotated[date | None, Query(alias="to", description="the last UTC day; today, if left out")] = None,
    format: Annotated[Format, Query(description="JSON, or CSV with a row for each license and day")] = Format.JSON,  # noqa: A002
    bearer: ReportToken = None,
) -> Response:
    """Figures of days and months, at most 400 days at once; the last 90 where none are named."""
    service = service_of(request)
    now = service.clock()
    try:
        report_pass = read_report_pass(bearer.credentials if bearer else "", service.settings.issuer_keys, now)
        zone = _zone(report_pass.time_zone)
    except TokenFault as fault:
        return problems.not_genuine("token-invalid", fault)
    usual_first, usual_last = last_days(now, USUAL_DAYS)
    last = min(last or usual_last, usual_last)
    first = first or min(usual_first, last)
    if first > last:
        return problems.problem("malformed-request", "The first day must not come after the last, nor after today.")
    if (last - first).days >= MOST_DAYS:
        return problems.problem("malformed-request", f"Ask for at most {MOST_DAYS} days at once.")
    report = await service.reports.remembered(report_pass.organization, first, last, zone)
    if report is None:
        return problems.problem("token-invalid", "No program of this organization has used a license yet.")
    if format is Format.CSV:
        return Response(to_csv(report), media_type="text/csv")
    return Response(to_json(report), media_type="application/json")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise TokenFault(Flaw.MALFORMED, "names a time zone that is not known here") from None
