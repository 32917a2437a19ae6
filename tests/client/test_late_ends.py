"""What the client tells afterwards reaches the real register: until when a program ran without it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from licensing_client.machine import Status
from licensing_client.transport import Reply, Request
from simulation import Computer

from tests import factories
from tests.client.conftest import TimedService

HOUR = 3600.0


@pytest.fixture
def ann(service: TimedService, tmp_path: Path) -> Computer:
    organization = {"id": factories.new_id("org"), "name": "Acme"}
    return service.simulation(tmp_path, service.license(organization=organization, seats=1)).computer().start().run(600)


def in_grace(ann: Computer) -> Computer:
    ann.network.condition = "down"
    ann.run(5 * HOUR)
    assert ann.has_status(Status.GRACE)
    return ann


def ran_until(service: TimedService, ann: Computer) -> float:
    """Until when the program of the first session that ended ran."""
    use = service.uses(ann.license)[0]
    assert use.ran_until is not None
    assert use.ended_at is not None
    assert use.ended_at < use.ran_until
    return use.ran_until.timestamp()


def test_a_program_that_ended_in_grace_tells_it_at_its_end(service: TimedService, ann: Computer) -> None:
    in_grace(ann).network.condition = "fine"
    ann.stop()
    assert ran_until(service, ann) == pytest.approx(service.clock.true, abs=2)


def test_the_run_after_a_crash_tells_it_with_its_start(service: TimedService, ann: Computer) -> None:
    in_grace(ann).crash()
    crashed_at = service.clock.true
    service.clock.true += HOUR
    ann.network.condition = "fine"
    ann.start(seed=2).run(5)
    assert crashed_at - 310 < ran_until(service, ann) <= crashed_at
    ann.stop()


def test_a_report_that_got_no_answer_is_sent_by_the_next_run(service: TimedService, ann: Computer) -> None:
    in_grace(ann).network.condition = "fine"
    real: Callable[[Request], Reply] = ann.network.handle
    ann.network.handle = lambda request: Reply(503, {}, b"") if request.url.endswith("/ended") else real(request)
    ann.stop()
    ended_at = service.clock.true
    assert service.uses(ann.license)[0].ran_until is None
    ann.network.handle = real
    ann.start(seed=2).run(5).stop()
    assert ran_until(service, ann) == pytest.approx(ended_at, abs=2)


def test_a_program_that_comes_back_when_its_session_has_lapsed_tells_it_and_runs_on(
    service: TimedService, ann: Computer
) -> None:
    in_grace(ann)
    assert service.sweep(ann.license) == 1
    ann.network.condition = "fine"
    ann.run(400)
    assert ann.has_status(Status.GRANTED)
    answered_at = service.clock.true
    assert answered_at - 401 < ran_until(service, ann) <= answered_at
    (lapsed,) = service.uses(ann.license)
    ann.stop()
    begun = max(use.started_at for use in service.uses(ann.license)).timestamp()
    assert lapsed.ran_until
    assert lapsed.ran_until.timestamp() == pytest.approx(begun, abs=3), "the one ends where the other begins"


def test_the_run_after_a_crash_tells_it_also_when_the_session_has_lapsed(service: TimedService, ann: Computer) -> None:
    in_grace(ann).crash()
    crashed_at = service.clock.true
    service.clock.true += HOUR
    assert service.sweep(ann.license) == 1
    ann.network.condition = "fine"
    ann.start(seed=2).run(5)
    assert crashed_at - 310 < ran_until(service, ann) <= crashed_at
    ann.stop()


def test_what_a_repeated_start_tells_counts_no_time_twice(service: TimedService, ann: Computer) -> None:
    """The start that replaces the session is granted, and its answer is lost for an hour."""
    in_grace(ann)
    real: Callable[[Request], Reply] = ann.network.handle
    ann.network.condition = "fine"

    def lose_answers_to_starts(request: Request) -> Reply:
        reply = real(request)
        return reply if not request.url.endswith("/sessions") else Reply(502, {}, b"")

    assert service.sweep(ann.license) == 1
    ann.network.handle = lose_answers_to_starts
    ann.run(HOUR)
    ann.network.handle = real
    ann.run(400)
    assert ann.has_status(Status.GRANTED)
    until = ran_until(service, ann)
    ann.stop()
    begun = max(use.started_at for use in service.uses(ann.license)).timestamp()
    assert until <= begun + 3
