"""What a customer's monitoring is told of its licenses: OpenMetrics text (openmetrics.io, version 1.0.0).

Names are a contract: dashboards rest on them. The only labels are the license's id and its product. Numbers that
small groups are not told have no sample (`licensing.services.now`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from licensing.rules.report import Now
from licensing.services.now import LicenseNow
from licensing.services.refusals import MonthRefusals

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The library's own, of which a test makes sure; the library is imported only when somebody asks for metrics."""
MEDIA_TYPE: Final = CONTENT_TYPE.partition(";")[0]
LABELS: Final = ("license", "product")

SEATS: Final[Mapping[str, tuple[str, Callable[[Now], int | None]]]] = {
    "licensing_seats_in_use": ("Seats that are held now.", lambda now: now.in_use),
    "licensing_seats": ("Seats that were bought.", lambda now: now.total),
    "licensing_waiting": ("Starts that wait in line for a seat.", lambda now: now.waiting),
    "licensing_seat_free": ("1 if a seat is free and nobody waits, 0 otherwise.", lambda now: now.free),
}
"""The gauges of a license that takes seats: what they mean, and their value; None is not told."""
END: Final = "licensing_license_end_timestamp_seconds"
REFUSED: Final = "licensing_starts_refused"


def metrics_text(licenses: Sequence[LicenseNow], refusals: Mapping[str, MonthRefusals]) -> bytes:
    """The metrics of some licenses; `refusals` of this month by license, of which others are left out."""
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.registry import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(_Collected(_families(licenses, refusals)))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


class _Collected:
    """Metrics in the form in which a registry collects them."""

    def __init__(self, families: "list[Metric]") -> None:
        self._families = families

    def collect(self) -> "list[Metric]":
        """All of them."""
        return self._families


def _families(licenses: Sequence[LicenseNow], refusals: Mapping[str, MonthRefusals]) -> "list[Metric]":
    """All metrics, those without a sample, too."""
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    gauges = {name: GaugeMetricFamily(name, means, labels=LABELS) for name, (means, _) in SEATS.items()}
    ends = GaugeMetricFamily(END, "When the license ends.", labels=LABELS, unit="seconds")
    means = "Starts that were refused for want of a seat, on the days of a month that are over."
    refused = CounterMetricFamily(REFUSED, means, labels=LABELS)
    for each in licenses:
        labels = each.license_id, each.product
        ends.add_metric(labels, each.valid_until.timestamp())
        if each.now is None:
            continue
        for name, (_, value) in SEATS.items():
            if (number := value(each.now)) is not None:
                gauges[name].add_metric(labels, number)
        if of_month := refusals.get(each.license_id):
            refused.add_metric(labels, of_month.number, of_month.since.timestamp())
    return [*gauges.values(), ends, refused]
