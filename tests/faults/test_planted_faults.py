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
MACHINE: Final = "faults/test_state_machine.py"
MATRIX: Final = "faults/test_every_fault.py"
RETAIN: Final = "services/test_retention.py"
CRASHES: Final = "services/test_retention_crashes.py"
PRIVACY: Final = "services/test_privacy.py"

TESTS_FAILED: Final = 1
"""What pytest ends with then; other codes mean that it could not run them."""


class Planted(NamedTuple):
    file: str
    sound: str
    broken: str
    found_by: tuple[str, ...]


PLANTED: Final = {
    # Who holds a seat.
    "one seat more than bought": Planted(
        "rules/seats.py", "if in_use >= terms.capacity:", "if in_use > terms.capacity:", (RULES, MACHINE)
    ),
    "a shared seat is freed by the first who leaves": Planted(
        "rules/seats.py", "            if count == 1:\n", "            if count:\n", (RULES, MACHINE)
    ),
    "a lapsed session makes room twice": Planted(
        "rules/seats.py",
        "        self.lapsed.pop(session.id, None)  # whatever ended it, it makes room only once\n",
        "",
        (SEATS,),
    ),
    "a session lapses a moment before its lease": Planted(
        "rules/seats.py",
        "if facts.surveyed and row and row.value.expires_at <= now",
        "if facts.surveyed and row and row.value.expires_at <= now + timedelta(seconds=60)",
        (RULES, MACHINE),
    ),
    "one session is two people's": Planted(
        "rules/seats.py", "            return Taken()\n", "            pass\n", (MACHINE,)
    ),
    "a late repeat does not revive": Planted(
        "rules/seats.py", "        self.turn.revivals.append(Versioned(session, row.version))\n", "", (SEATS,)
    ),
    "an older file brings back its terms": Planted(
        "rules/seats.py",
        "if newest.serial > known.terms.serial else known",
        "if newest.serial != known.terms.serial else known",
        (RULES, MACHINE),
    ),
    "a suspended license takes new terms": Planted(
        "rules/seats.py", "if not brought or (known and known.suspended):", "if not brought:", (SEATS,)
    ),
    "a refusal by what is only remembered": Planted(
        "rules/seats.py",
        "        if not self.facts.fresh:\n            self",
        "        if False:\n            self",
        (RULES,),
    ),
    "an opt-out hides what becomes of the license": Planted(
        "rules/seats.py",
        "return self._on_a_fresh_head(Granted(None, expires_at))",
        "return Granted(None, expires_at)",
        (SEATS, LEDGER),
    ),
    "a sweep ends what a heartbeat has saved": Planted(
        "rules/seats.py", "if row is None or row.version != request.row.version or", "if row is None or", (SEATS,)
    ),
    "a sweep ahead of time ends what still runs": Planted(
        "rules/seats.py", " or row.value.expires_at > self.now:", ":", (RULES,)
    ),
    # The commit.
    "the head is written whatever its version": Planted(
        "storage/ledger.py", '"commit": commit_id}, known.version)', '"commit": commit_id})', (LEDGER, MACHINE)
    ),
    "nothing is read again after a lost race": Planted(
        "storage/ledger.py",
        "            self._forget()\n            group.facts = Facts()\n            await _pause(group.conflicts",
        "            await _pause(group.conflicts",
        (LEDGER, MACHINE),
    ),
    "what an earlier try has done is not recognized": Planted(
        "storage/ledger.py", "return group.attempts.get(commit_id)", "return None", (LEDGER,)
    ),
    "a start under unchanged seats does not look at the head": Planted(
        "storage/ledger.py", "bool(turn.arrivals or turn.departures or known is None", "bool(known is None", (MACHINE,)
    ),
    "a refused batch of heartbeats is taken for noted": Planted(
        "storage/ledger.py",
        "                gone.add(alive[conflict.index].session)\n",
        "                break\n",
        (LEDGER,),
    ),
    "a heartbeat's refusal by the store means that the session is gone": Planted(
        "storage/ledger.py", "            if conflict.mismatch is Mismatch.GONE:\n", "            if True:\n", (MATRIX,)
    ),
    "an ended session leaves nothing behind": Planted(
        "storage/ledger.py",
        "for write in rows.departure(_apart(group, departure)))",
        "for write in rows.departure(_apart(group, departure))[:1])",
        (LEDGER, MACHINE),
    ),
    "a session that ended stays active": Planted(
        "storage/ledger.py",
        "for write in rows.departure(_apart(group, departure)))",
        "for write in rows.departure(_apart(group, departure))[1:])",
        (LEDGER, MACHINE),
    ),
    # The store.
    "a lost answer is taken for success": Planted(
        "storage/tables.py",
        "        if response.status_code != HTTPStatus.ACCEPTED:\n"
        "            raise _fault(refused(response.status_code, response.content))\n",
        "        if response.status_code != HTTPStatus.ACCEPTED:\n            return [''] * writes\n",
        (MATRIX,),
    ),
    "a call may take as long as it likes": Planted(
        "storage/tables.py",
        "asyncio.timeout(CALL_SECONDS):\n                    return await call()\n        except",
        "asyncio.timeout(None):\n                    return await call()\n        except",
        (MATRIX,),
    ),
    # What is kept, and for how long.
    "sessions go a day too early": Planted(
        "services/retention.py",
        'await self._delete(license, rows.ENDED, rows.ended_key(self.cutoff, ""))',
        'await self._delete(license, rows.ENDED, rows.ended_key(self.cutoff + timedelta(days=1), ""))',
        (RETAIN,),
    ),
    "figures are called final before they are written": Planted(
        "services/retention.py",
        "            await keep(self.tables, license, figured)\n",
        "            await finish(self.tables, license, figured)\n"
        "            await keep(self.tables, license, figured)\n",
        (CRASHES,),
    ),
    "an erasure under the newest pepper alone": Planted(
        "services/privacy.py",
        "        for pepper in self._peppers:\n            values",
        "        for pepper in list(self._peppers)[:1]:\n            values",
        (PRIVACY,),
    ),
    "an erasure leaves the waits": Planted(
        "services/privacy.py", '            await delete_all(self._tables, "register", name, waits)\n', "", (PRIVACY,)
    ),
}
QUICK: Final = [name for name, planted in PLANTED.items() if planted.found_by == (RULES,)]


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
