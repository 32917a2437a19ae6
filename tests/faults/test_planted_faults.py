"""Every promise can be seen to break: a fault planted in a copy of the code must be found by the tests that guard it.

Each fault is one replacement, and the file of tests that has to fail on it. Without PLANTED=all only the quick ones
are planted; all of them take some ten minutes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("licensing", "client", "tests", "function_app.py", "host.json", "pyproject.toml")

SEATS: Final = "rules/test_seats.py"
RULES: Final = "rules/test_seats_at_random.py"
LEDGER: Final = "storage/test_ledger.py"
TOKENS: Final = "crypto/test_tokens.py"
ROW_CACHE: Final = "storage/test_row_cache.py"
MACHINE: Final = "faults/test_state_machine.py"
MATRIX: Final = "faults/test_every_fault.py"
VERSIONS: Final = "stories/test_two_versions.py"
FIRST_EDITION: Final = "stories/test_first_edition_register.py"
RETENTION: Final = "services/test_retention.py"
CRASHES: Final = "services/test_retention_crashes.py"
PRIVACY: Final = "services/test_privacy.py"
WATCHED: Final = "stories/test_watched_people.py"
CLOSED: Final = "services/test_closed_months.py"
REPLACING: Final = "rules/test_replacing.py"
LINE: Final = "rules/test_line.py"
WAITING: Final = "storage/test_line.py"
OUTAGES: Final = "storage/test_outages.py"
RECALLS: Final = "services/test_recalls.py"
HISTORIES: Final = "services/test_histories_at_random.py"
GRACE: Final = "rules/test_grace.py"
LATE: Final = "services/test_late_ends.py"
REPORT: Final = "rules/test_report.py"
KEPT: Final = "rules/test_kept_file.py"
NEWER: Final = "api/test_newer_files.py"
PUBLISHING: Final = "services/test_publishing.py"
SEALING: Final = "crypto/test_sealing.py"

TESTS_FAILED: Final = 1
"""Pytest's exit code when tests failed; other codes mean that it could not run them."""


class Planted(NamedTuple):
    file: str
    sound: str
    broken: str
    found_by: tuple[str, ...]


PLANTED: Final = {
    # Who holds a seat.
    "one seat more than bought": Planted(
        "rules/seats.py",
        "free = self.state.terms.capacity - self.state.in_use",
        "free = self.state.terms.capacity - self.state.in_use + 1",
        (RULES, MACHINE),
    ),
    "a shared seat is freed by the first session that ends": Planted(
        "rules/seats.py", "if sessions == 1:", "if sessions:", (RULES, MACHINE)
    ),
    "a lapsed session makes room twice": Planted(
        "rules/seats.py", "self.lapsed.pop(session.id, None)  # it makes room only once", "pass", (SEATS,)
    ),
    "a session lapses a moment before its lease": Planted(
        "rules/seats.py",
        "row.value.lapse_after(self.outage) <= now}",
        "row.value.lapse_after(self.outage) <= now + (row.value.lapses_at - row.value.heartbeat_at) / 15}",
        (SEATS,),
    ),
    "one session is two people's": Planted("rules/seats.py", "return ForeignSession()", "pass", (MACHINE,)),
    "a late repeat does not renew": Planted(
        "rules/seats.py", "self.plan.renewed.append(Versioned(session, row.etag))", "pass", (SEATS,)
    ),
    "an older file brings back its terms": Planted(
        "rules/seats.py", "if newest.serial > ", "if newest.serial != ", (RULES, MACHINE)
    ),
    "a suspended license takes new terms": Planted(
        "rules/seats.py", "if newest is None or (known and known.suspended):", "if newest is None:", (SEATS,)
    ),
    "a refusal by the cached state": Planted(
        "rules/seats.py", "if not facts.fresh and not waits_on:", "if False:", (SEATS,)
    ),
    "it is refused though nobody knows who lapses": Planted(
        "rules/seats.py", "self.questions.lapsing = True", "pass", (SEATS,)
    ),
    "who has lapsed is asked without end": Planted("rules/seats.py", "return MORE_HAVE_LAPSED", "pass", (SEATS,)),
    "a row that was absent stays so under a newer state": Planted(
        "rules/seats.py",
        "for name, row in self.sessions.items() if row}",
        "for name, row in self.sessions.items()}",
        (LEDGER,),
    ),
    "an opt-out hides what becomes of the license": Planted(
        "rules/seats.py",
        "return self._if_fresh(Granted(None, lasting_end))",
        "return Granted(None, lasting_end)",
        (SEATS, LEDGER),
    ),
    "a sweep ends what a heartbeat has saved": Planted(
        "rules/seats.py", " or row.etag != request.row.etag", "", (SEATS,)
    ),
    "a sweep ahead of time ends what still runs": Planted(
        "rules/seats.py",
        " or row.value.lapses_at > self.now:\n"
        "            return Ended(now=False)  # it ended, a heartbeat came in between, or the judge's clock is ahead\n"
        "        if isinstance(self.facts.outage, Unknown):\n"
        "            self.questions.outage = True\n"
        "            return UNREAD\n"
        "        if row.value.lapse_after(self.outage) > self.now:",
        ":\n            return Ended(now=False)\n        if False:",
        (SEATS,),
    ),
    # Held, recalled, replaced and borrowed seats.
    "a shared seat is free though others sit on it": Planted(
        "rules/seats.py", "return sessions == 1", "return bool(sessions)", (REPLACING, MACHINE)
    ),
    "a refused start ends what it would replace": Planted(
        "rules/seats.py", "if row and self.state.recalls(start.replaces):", "if row:", (REPLACING, MACHINE)
    ),
    "a program ran longer than until now": Planted(
        "rules/model.py", "min(ran_until, now) if ran_until", "ran_until if ran_until", (REPLACING, MACHINE)
    ),
    "a late repeat cuts the hold short": Planted(
        "rules/seats.py", "max(session.lapses_at, again.lapses_at)", "again.lapses_at", (SEATS,)
    ),
    "a heartbeat does not hold the seat": Planted(
        "services/sessions.py",
        "state.terms.lapse(now, max(renewed.expires_at, lease.expires_at), lease.grace_end)",
        "renewed.expires_at",
        (MACHINE,),
    ),
    "silent time counts": Planted(
        "rules/model.py", "if now >= session.expires_at else now", "if now >= session.lapses_at else now", (MACHINE,)
    ),
    "a borrowing needs no confirmation": Planted(
        "rules/seats.py", "min(outcome.expires_at, ordinary_end)", "outcome.expires_at", (SEATS, MACHINE)
    ),
    "the first heartbeat does not borrow": Planted(
        "storage/register.py", "if heartbeat.borrowed is not None:", "if False:", (MACHINE,)
    ),
    "a recalled session gets leases": Planted(
        "services/sessions.py", "            if state.recalls(session_id):", "            if False:", (MACHINE,)
    ),
    "a recall is kept for good": Planted(
        "rules/seats.py", "self.state = self.state.with_ended(session.id, self.now)", "pass", (RECALLS, MACHINE)
    ),
    # Outages.
    "an outage begins when it ends": Planted(
        "storage/outages.py", "Outage.until(now, alive.value, outage)", "Outage.until(now, now, outage)", (OUTAGES,)
    ),
    "a second outage forgets who ran before the first": Planted(
        "rules/outage.py", "last.begin if last and gap_begin < last.amnesty_end else", "", (OUTAGES,)
    ),
    # The line.
    "a waiter is overtaken": Planted(
        "rules/seats.py",
        "return free > line.waiters_before(self._live_line(), session_id)",
        "return True",
        (LINE,),
    ),
    "a waiter loses its place when it asks again": Planted(
        "rules/line.py",
        "return (*line[: position - 1], heard, *line[position:])",
        "return without(line, [session_id])",
        (LINE,),
    ),
    "who is served keeps its place": Planted(
        "rules/seats.py",
        "line=line.without(self.state.line, [session.id])",
        "line=self.state.line",
        (LINE,),
    ),
    "who does not wait keeps a place": Planted(
        "rules/seats.py", "waiters = line.without(waiters, [start.session_id])", "pass", (LINE,)
    ),
    "a waiter has left before it can ask again": Planted(
        "rules/line.py", "MISSED_RETRIES: Final = 3", "MISSED_RETRIES: Final = 1", (LINE,)
    ),
    "nobody who waits has ever left": Planted(
        "rules/line.py", "if place.left_at(outage) > now", "if True", (LINE, WAITING)
    ),
    "waiters leave during an outage": Planted(
        "rules/line.py",
        "return spared(self.heard_at + silence, outage)",
        "return self.heard_at + silence",
        (LINE, OUTAGES),
    ),
    "whether the service was away is not asked for waiters": Planted(
        "rules/seats.py",
        "if len(waiters) < len(self.state.line) and isinstance(self.facts.outage, Unknown):",
        "if False:",
        (LINE,),
    ),
    "a waiter is refused by a cached state that nothing changes": Planted(
        "rules/seats.py",
        "has_place and line.waiting(waiters, session.id, self.now) != self.state.line",
        "has_place",
        (LINE,),
    ),
    "a sweep knows no outage": Planted(
        "rules/seats.py", "if row.value.lapse_after(self.outage) > self.now:", "if False:", (OUTAGES, MACHINE)
    ),
    "room is made before the last outage is known": Planted(
        "rules/seats.py", "if self.lapsed and isinstance(facts.outage, Unknown):", "if False:", (OUTAGES,)
    ),
    "a session of the first edition has lapsed": Planted(
        "rules/model.py", "max(self.lapses_at, self.expires_at))", "self.lapses_at)", (FIRST_EDITION,)
    ),
    # The commit.
    "the state is written whatever its version": Planted(
        "storage/register.py", "COMMIT: commit_id}, before.etag)", "COMMIT: commit_id})", (LEDGER, MACHINE)
    ),
    "nothing is read again after a lost race": Planted(
        "storage/writer.py",
        "case None | Change(kind=RowKind.STATE):",
        "case None | Change(kind=RowKind.STATE) if batch.conflicts > 1000:",
        (LEDGER,),
    ),
    "what an earlier try has done is not recognized": Planted(
        "storage/writer.py", "batch.sent.get(state.commit_id)", "None", (LEDGER,)
    ),
    "a start under unchanged seats does not check the state": Planted(
        "rules/seats.py", "self.started or self.renewed or self.ended or ", "", (MACHINE,)
    ),
    "a denial that is there already is inserted again": Planted(
        "storage/writer.py", "again=session in batch.denied", "again=False", (LEDGER,)
    ),
    "an end at the microsecond of an earlier one is not put off": Planted(
        "storage/writer.py", "batch.delays[session_id] += 1", "pass", (LEDGER,)
    ),
    "a cached state never gets old": Planted(
        "storage/state_cache.py",
        "if time.monotonic() - self._read_at < max_age_seconds:",
        "if self._state:",
        (MACHINE,),
    ),
    "new terms keep what lapses soon": Planted(
        "storage/state_cache.py", "self.lapsing = None  # other terms", "pass  # other terms", (LEDGER,)
    ),
    "a lost batch of heartbeats counts as noted": Planted(
        "storage/heartbeats.py", "gone.add(alive[conflict.index].session_id)", "break", (LEDGER,)
    ),
    "a stale row means that the session is gone": Planted(
        "storage/heartbeats.py", "elif conflict.mismatch is Mismatch.GONE:", "elif True:", (ROW_CACHE,)
    ),
    "rows stay facts though the store names none": Planted(
        "storage/writer.py",
        "batch.facts.present() if losing else Facts(outage=batch.facts.outage)",
        "batch.facts.present()",
        (ROW_CACHE,),
    ),
    "who lapses is asked again and again while the answers are slow": Planted(
        "rules/seats.py", "(facts.asked or facts.lapsing.until > self.now)", "facts.lapsing.until > self.now", (SEATS,)
    ),
    "a lapsed session makes room though its start is repeated": Planted(
        "rules/seats.py",
        "return 2, line.waiters_before(waiters, request.session_id)",
        "return 1, 0",
        (SEATS,),
    ),
    "who lapses is cached under terms that hold no more": Planted(
        "storage/state_cache.py", "if terms == self._terms:", "if True:", (ROW_CACHE,)
    ),
    "an ended session leaves nothing behind": Planted(
        "storage/writer.py", "end_changes(_delayed(row, batch.delays))", "end_changes(row)[:1]", (LEDGER, MACHINE)
    ),
    "a session that ended stays active": Planted(
        "storage/writer.py", "end_changes(_delayed(row, batch.delays))", "end_changes(row)[1:]", (LEDGER, MACHINE)
    ),
    # What is cached.
    "a start is answered by a cached row": Planted(
        "storage/writer.py", "case Start(replaces=session_id):", "case Start(session_id=session_id):", (ROW_CACHE,)
    ),
    "a heartbeat does not demand the version of a cached row": Planted(
        "storage/register.py",
        "merge(key, columns, before.etag), ACTIVE",
        "merge(key, columns), ACTIVE",
        (ROW_CACHE,),
    ),
    "what a process has written is not remembered": Planted(
        "storage/writer.py", "self._rows.store(self._license_id, changes, etags)", "pass", (ROW_CACHE,)
    ),
    "a token is known by its signature alone": Planted(
        "crypto/keys.py",
        "hashlib.sha256(token.encode())",
        'hashlib.sha256(token.rpartition(".")[2].encode())',
        (TOKENS,),
    ),
    # The store.
    "a column that holds its field's default is not written": Planted(
        "storage/codec.py", "exclude_none=True)", "exclude_none=True, exclude_defaults=True)", (LEDGER,)
    ),
    "a column gets another name": Planted(
        "storage/register.py", '"lease_seconds": "lease",', '"lease_seconds": "lease_length",', (FIRST_EDITION,)
    ),
    "a final day of the version before is not found": Planted(
        "storage/register.py", 'FINAL_DAY: Final = "figured_to"', 'FINAL_DAY: Final = "final_day"', (FIRST_EDITION,)
    ),
    "a lost answer is taken for success": Planted(
        "storage/tables.py",
        "if response.status_code != HTTPStatus.ACCEPTED:",
        "if response.status_code != HTTPStatus.ACCEPTED:\n            return [response.reason] * writes",
        (MATRIX,),
    ),
    "a call may take as long as it likes": Planted(
        "storage/tables.py",
        "asyncio.timeout(CALL_SECONDS):\n                    return await call()",
        "asyncio.timeout(None):\n                    return await call()",
        (MATRIX,),
    ),
    # What a customer may see.
    "a customer sees today": Planted(
        "services/reports.py", "- SWEPT_WITHIN).date() - DAY", "- SWEPT_WITHIN).date()", (WATCHED,)
    ),
    "a customer sees a day the moment it is over": Planted(
        "services/reports.py",
        "(as_of - max(WAIT, timedelta(seconds=lease_seconds)) - SWEPT_WITHIN).date()",
        "as_of.date()",
        (WATCHED,),
    ),
    "a day is reported before refusals have waited": Planted(
        "services/reports.py", "max(WAIT, timedelta(seconds=lease_seconds)) - ", "", (WATCHED,)
    ),
    "a customer sees a month that is not over": Planted(
        "services/reports.py", "return month < month_of(newest + DAY)", "return True", (WATCHED,)
    ),
    "a license appears when it is used first": Planted(
        "services/reports.py", "return state.since is None or state.since.date() <= newest", "return True", (WATCHED,)
    ),
    "a new license file appears when it is used first": Planted(
        "services/reports.py", "held = state.terms_before(midnight(newest + DAY))", "held = state.terms", (WATCHED,)
    ),
    "a day of few people has all totals": Planted(
        "rules/report.py", "enough = day.users >= small_group", "enough = True", (WATCHED,)
    ),
    "a day of few people has its hours of use": Planted(
        "rules/report.py",
        "seat_seconds=day.seat_seconds if exact else None",
        "seat_seconds=day.seat_seconds",
        (WATCHED,),
    ),
    "a day of few people has its overdraft": Planted(
        "rules/report.py",
        "overdraft_seconds=day.overdraft_seconds if exact else None",
        "overdraft_seconds=day.overdraft_seconds",
        (WATCHED,),
    ),
    "a day of few people has its sessions": Planted(
        "rules/report.py", "sessions=day.sessions if exact else None", "sessions=day.sessions", (WATCHED,)
    ),
    "a day of few people has the hour of its peak": Planted(
        "rules/report.py",
        "if enough and _enough_at_peak(day, small_group) else None",
        "if enough or True else None",
        (WATCHED,),
    ),
    "an hour of few people has the peak": Planted(
        "rules/report.py", "_enough_at_peak(day, small_group) else None", "True else None", (WATCHED,)
    ),
    "an hour of few people counts among the busy ones": Planted(
        "rules/report.py",
        "peaks[local] = max(peaks.get(local, 0), peak if enough else 0)",
        "peaks[local] = peak",
        (WATCHED,),
    ),
    "an hour of few people is not told from one of many": Planted(
        "rules/report.py",
        "            enough = users >= max(small_group, 1)",
        "            enough = users > 0",
        (WATCHED,),
    ),
    "a day's starts tell of a session that ran across midnight": Planted(
        "rules/sizing.py", "MOST_LEVELS) if small_group else 0", "MOST_LEVELS) if not small_group else 0", (WATCHED,)
    ),
    "a refusal tells of a seat that was held across midnight": Planted(
        "rules/report.py",
        "refusals = enough or day.peak >= seats + state.terms.overdraft",
        "refusals = True",
        (WATCHED,),
    ),
    "a month has the sums of its only day of few people": Planted(
        "rules/report.py", "if alone[month.month] == 1:", "if False:", (WATCHED,)
    ),
    "a month has a refusal that its day does not report": Planted(
        "rules/report.py", "min(month.denials or 0, denials[month.month])", "month.denials or 0", (WATCHED,)
    ),
    # What is kept, and for how long.
    "sessions go a day too early": Planted(
        "services/retention.py",
        "RowKind.ENDED, self.cutoff,",
        "RowKind.ENDED, self.cutoff + DAY,",
        (RETENTION,),
    ),
    "totals are called final before they are written": Planted(
        "services/organization_totals.py",
        "await save_totals(register, license_id, aggregate)",
        "await mark_final(register, license_id, aggregate)\n"
        "            await save_totals(register, license_id, aggregate)",
        (CRASHES,),
    ),
    "a month keeps an hour for good": Planted(
        "rules/totals.py", "return replace(month, peak_at=None) if", "return month if", (CLOSED,)
    ),
    "a month is reduced after its sessions are gone": Planted(
        "services/totals.py", '-01")) < year_before(as_of)', '-28")) < year_before(as_of)', (CLOSED,)
    ),
    "a person counts once for each pepper": Planted(
        "rules/totals.py",
        "max(Counter(pepper for pepper, _ in set(pseudonyms)).values(), default=0)",
        "len(set(pseudonyms))",
        (CLOSED,),
    ),
    # Closed means closed.
    "a correction counts a final day again from what is left": Planted(
        "rules/totals.py", "if saved.erased or not _agree(saved, before):", "if False:", (CLOSED, HISTORIES)
    ),
    "a correction counts a final month again from what is left": Planted(
        "rules/totals.py", "if whole and _agree(saved, before):", "if True:", (CLOSED,)
    ),
    "an erasure does not count the days that are over first": Planted(
        "services/privacy.py", "if any(found.values()):", "if False:", (CLOSED,)
    ),
    "a day that is held open forgets what erased sessions gave": Planted(
        "rules/totals.py",
        "return replace(totals, erased=True, erased_part=",
        "return replace(totals, erased_part=",
        (CLOSED,),
    ),
    "a final day tells what an erased person did": Planted(
        "services/totals.py", "[*map(made_final, some)]", "some", (CLOSED,)
    ),
    "finality moves back": Planted(
        "services/organization_totals.py", "as_of, now, dry_run=dry_run)", "as_of, dry_run=dry_run)", (CLOSED,)
    ),
    "a session is corrected without its totals": Planted(
        "storage/register.py", "        writes += map(_totals_write, totals)\n", "", (CLOSED, HISTORIES)
    ),
    "a correction is not named": Planted("rules/totals.py", "**kept, corrected_at=at)", "**kept)", (CLOSED,)),
    "a month is billed by the newest file": Planted(
        "rules/model.py", "if former.until >= instant)", "if False)", (CLOSED,)
    ),
    "minutes are counted from the sessions alone": Planted(
        "services/reports.py", "if used and used <= known.keys():", "if False:", (CLOSED,)
    ),
    "a right user's seat keeps two names": Planted(
        "services/privacy.py", "holders = dict.fromkeys((*users, *names), name)", "holders = users", (CLOSED,)
    ),
    "totals of corrected sessions are saved": Planted(
        "services/totals.py", " and (known.correction, known.final_day) == mine:", ":", (PRIVACY,)
    ),
    "a correction drops a newer version's columns": Planted(
        "storage/register.py",
        "{**before.row.content, **ENDED_SESSIONS",
        "{**ENDED_SESSIONS",
        (VERSIONS,),
    ),
    "an erasure under the newest pepper alone": Planted(
        "services/privacy.py",
        "for pepper in self.peppers",
        "for pepper in list(self.peppers)[:1]",
        (PRIVACY,),
    ),
    "an erasure leaves the waits": Planted(
        "services/privacy.py", "{row.value.session.id for row in rows}", "set()", (PRIVACY,)
    ),
    # Programs that ran on after their sessions' ends.
    "a tail counts whole on each of its days": Planted(
        "rules/grace.py", "min(use.tail[1], end)) for", "use.tail[1]) for", (GRACE,)
    ),
    "an earlier time lowers a later one": Planted(
        "rules/grace.py", "if ran_until > max(known, ended.ended_at) else", "if ran_until != known else", (GRACE,)
    ),
    "what is late counts on days, too": Planted(
        "rules/grace.py",
        "if ended.late_until is None and is_in_time(",
        "if ended.late_until is None or is_in_time(",
        (GRACE,),
    ),
    "what is late counts each time": Planted(
        "rules/grace.py",
        "(ended.ended_at, ended.ran_until, ended.late_until) if",
        "(ended.ended_at, ended.ran_until) if",
        (GRACE,),
    ),
    "tails are heard of for ever": Planted(
        "rules/grace.py",
        "+ terms.grace + HEARD_WITHIN\n\n\ndef oldest",
        "+ 400 * DAY\n\n\ndef oldest",
        (GRACE, LATE),
    ),
    "a night forgets erased tails": Planted(
        "rules/grace.py",
        "grace_seconds=tails.seconds(day) + totals.erased_grace,",
        "grace_seconds=tails.seconds(day),",
        (GRACE,),
    ),
    "an erasure does not note its tails": Planted(
        "services/corrections.py",
        "return with_erased(totals, seconds) if totals and seconds and is_open else changed",
        "return changed",
        (LATE,),
    ),
    "an erasure leaves a session whose row has changed meanwhile": Planted(
        "services/privacy.py", "await self._ended_of(license_id, person) if gone < len(rows) else []", "[]", (LATE,)
    ),
    "a correction drops the tails of its days": Planted(
        "rules/totals.py", "for name in (*TERMS, *GRACE)}", "for name in TERMS}", (GRACE, LATE)
    ),
    "a correction undoes tails that were counted meanwhile": Planted(
        "services/totals.py",
        "aggregate.correction = (await register.correct(license_id, known, (), totals)).correction",
        "await register.save_totals(license_id, known, totals)",
        (LATE,),
    ),
    "a closed day is counted again": Planted(
        "services/totals.py",
        "max(oldest_open(state.value.terms, now or as_of), year_before(as_of).date())",
        "year_before(as_of).date()",
        (LATE,),
    ),
    "a final month keeps the tails that it had": Planted(
        "services/totals.py", "*filter(None, map(self._month, sorted(months)))", "", (LATE, HISTORIES)
    ),
    "a report is written over a later one": Planted(
        "storage/register.py",
        "writes = [merge(before.row.key, tail, before.etag)]",
        "writes = [merge(before.row.key, tail)]",
        (LATE,),
    ),
    "a program ran on into the future": Planted(
        "services/late_ends.py", "min(lease.latest(ran_until), now)", "lease.latest(ran_until)", (LATE,)
    ),
    "a session that ended before its lease was issued is not found": Planted(
        "services/late_ends.py",
        "lease.session_id, since - CLOCKS_DIFFER, begun_by",
        "lease.session_id, since, begun_by",
        (LATE,),
    ),
    "a later use of a session id is taken for the lease's": Planted(
        "storage/register.py",
        "for _, started_at, key in starts if started_at <= begun_by)",
        "for _, started_at, key in starts)",
        (LATE,),
    ),
    "a day without sessions gives a statement a line": Planted(
        "services/reports.py", "[each for each in of_month if each.sessions or each.denials]", "of_month", (LATE,)
    ),
    "a customer sees for how long one of many people ran on": Planted(
        "rules/report.py",
        "tails = day.grace_users >= small_group or",
        "tails = day.users >= small_group or",
        (WATCHED,),
    ),
    "a month tells its only day of few who ran on": Planted(
        "rules/report.py", "if few_ran_on[month.month] == 1:", "if False:", (REPORT,)
    ),
    # The newest license file.
    "a file that lists people stays when one is adopted": Planted(
        "rules/seats.py", "plan.drops_file = facts.file", "plan.drops_file = False", (KEPT, NEWER)
    ),
    "an older file takes the place of the newest": Planted(
        "rules/seats.py",
        "state.terms.serial > before.value.terms.serial):",
        "state.terms != before.value.terms or newest.file):",
        (KEPT,),
    ),
    "a kept file makes the transaction too large": Planted(
        "rules/seats.py",
        "+ (self.file is not None or self.drops_file)",
        "",
        (KEPT,),
    ),
    "a file that lists people is kept": Planted(
        "services/license_files.py", "if license.lists_people:", "if False:", (NEWER,)
    ),
    "a file that lists networks is kept": Planted(
        "rules/license.py",
        "bool(self.users or self.hosts or self.networks)",
        "bool(self.users or self.hosts)",
        (NEWER,),
    ),
    "a file below the oldest that counts gets the newest": Planted(
        "services/license_files.py", "if license.serial < state.terms.oldest:", "if False:", (NEWER,)
    ),
    "a newer file of another customer counts": Planted(
        "services/license_files.py",
        "return newest if newest and _continues(newest.license, license) else NoNewerFile.NONE",
        "return newest or NoNewerFile.NONE",
        (NEWER,),
    ),
    "a lease is signed with a key that only the newest file names": Planted(
        "services/sessions.py",
        "self._start_under(file, request, address, license.trusted_kids)",
        "self._start_under(file, request, address, file.license.trusted_kids)",
        (NEWER,),
    ),
    "a newer file is looked for by a cached state alone": Planted(
        "services/license_files.py", "if by_cache else (0,):", "if True else ():", (NEWER,)
    ),
    "a kept file shows when a person began to work": Planted(
        "services/sessions.py", "midnight(self.clock().date()))", "self.clock())", (NEWER,)
    ),
    "a sealed file opens in another row": Planted(
        "crypto/sealing.py", 'return f"{license_id} {serial}".encode()', 'return b""', (SEALING, NEWER)
    ),
    "an older file is published over the newest": Planted(
        "storage/ledger.py", "if state.terms.serial > terms.serial:", "if False:", (PUBLISHING,)
    ),
    "a file is published that programs would not trust": Planted(
        "services/publishing.py", "if lease_kid not in license.trusted_kids:", "if False:", (PUBLISHING,)
    ),
    "a file is published under which nobody could be found again": Planted(
        "services/publishing.py", '"kind", "salt")', '"kind")', (PUBLISHING,)
    ),
}
QUICK: Final = [name for name, planted in PLANTED.items() if planted.found_by in ((RULES,), (SEATS,))]


@pytest.mark.parametrize("name", PLANTED if os.environ.get("PLANTED") == "all" else QUICK)
def test_a_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    planted = PLANTED[name]
    for each in COPIED:
        copy = shutil.copytree if (ROOT / each).is_dir() else shutil.copy
        copy(ROOT / each, tmp_path / each)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    spoiled = tmp_path / "licensing" / planted.file
    text = spoiled.read_text()
    assert text.count(planted.sound) == 1, "the place where it was to be planted is not there, or not the only one"
    spoiled.write_text(text.replace(planted.sound, planted.broken))
    for tests in planted.found_by:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{tests}"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == TESTS_FAILED, (
            f"{tests} has not found it:\n{ended.stdout[-2000:]}{ended.stderr[-500:]}"
        )
