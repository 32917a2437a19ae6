"""The example in JavaScript decides as the client does: both live through the same stories, step by step."""

import json
import random
import subprocess
from typing import Any

from licensing_client import machine
from licensing_client.answers import Answer, Ended, Gone, Granted, NoAnswer, Refused, Seats, Unaccepted
from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.machine import Call, Earlier, End, Heartbeat, Randomness, Start, State, Status, Terms
from licensing_client.reasons import Code, reason

from tests.client.test_node import EXAMPLE, node

NOW = 1_800_000_000
STORIES, STEPS = 600, 40
EVENTS = ["call"] * 4 + ["time"] * 3 + ["idle", "active"] * 2 + ["sleep"]
ANSWERS = {
    "Start": ["granted"] * 3 + ["full"] * 2 + ["silent", "unsent", "suspended"],
    "Heartbeat": ["granted"] * 6 + ["silent", "gone", "unaccepted", "suspended"],
    "End": ["ended"] * 2 + ["silent", "unsent", "unaccepted"],
}

PLAY = """
import { readFileSync } from "node:fs";
const { Session } = await import(process.argv[1]);
Math.random = () => 0;
for (const [number, { wait, hold, end, begin, steps }] of JSON.parse(readFileSync(0, "utf8")).entries()) {
  const license = { exp: end, hold, lease: 900, kind: "floating" };
  const session = new Session(license, { last: null, open: null, ran: null, line: null }, null, wait, begin, () => {});
  const work = { idle: () => (session.idle = true), active: (now) => session.work(now) };
  for (const [index, { event, now, slept, meanwhile, answer, state }] of steps.entries()) {
    let call = null;
    if (work[event]) work[event](now);
    else {
      session.passed(now, slept);
      call = session.due(now);
    }
    work[meanwhile]?.(now);
    const lease = call && { sub: call.session, iat: Math.floor(now), exp: Math.floor(now) + 900, grace: 7200 };
    const granted = { recorded: true, heartbeat_seconds: 300 };
    if (call && answer) session.answered(answer.granted ? { ...answer, granted, token: "token", lease } : answer, now);
    const ran = call?.ranUntil ?? null;
    const made = call && [call.call, call.wait ?? null, Boolean(call.replaces), ran && Math.floor(ran)];
    const at = session.callAt === Infinity ? null : session.callAt;
    const found = { made, status: session.status, at, open: session.open, replaces: session.replaces,
      position: session.position, waiting: session.waiting, idle: session.idle, back: session.givenBack,
      asking: session.asking, givenUp: session.isGivenUp };
    const over = found.status === "refused" && !found.asking && !state.asking; // then the example ends
    const wrong = Object.keys(state).filter((name) => JSON.stringify(found[name]) !== JSON.stringify(state[name]));
    if (wrong.length && !(over && state.status === "refused")) {
      const text = wrong.map((name) => `${name} ${found[name]}, not ${state[name]}`);
      console.log(`story ${number}, step ${index}: ${text}`);
      break;
    }
    if (over) break;
  }
}
"""


def answer_to(call: Call, now: float, rng: random.Random) -> tuple[Answer, dict[str, Any]]:
    """An answer to a call, and as the example reads it."""
    waiting, seconds = rng.choice([0, 1, 2, 50]), rng.choice([0, 30])
    position = rng.choice([None, 1, 2]) if isinstance(call, Start) and call.wait else None
    session_id = call.session_id if isinstance(call, Start) else call.lease.session_id
    lease = Lease(f"{now}", session_id, int(now), int(now) + 900, "n", (), 7200, borrowed=False, overdraft=False)
    full = Refused(reason(Code.NO_SEAT), 10, None, position, Seats(1, 1, waiting))
    answers: dict[str, tuple[Answer, dict[str, Any]]] = {
        "granted": (Granted(lease, 300, True, Seats(1, 1, waiting)), {"granted": True, "waiting": waiting}),
        "full": (
            full,
            {"refused": "no-seat-available", "retryAfter": 10, "position": position, "waiting": waiting},
        ),
        "suspended": (Refused(reason(Code.LICENSE_SUSPENDED)), {"refused": "license-suspended", "retryAfter": None}),
        "silent": (NoAnswer(Step.SERVICE, "", seconds), {"noAnswer": True, "retryAfter": seconds}),
        "unsent": (NoAnswer(Step.CONNECT, ""), {"noAnswer": True, "unsent": True}),
        "gone": (Gone(), {"gone": True}),
        "unaccepted": (Unaccepted(), {"unaccepted": True}),
        "ended": (Ended(), {"ended": True}),
    }
    return answers[rng.choice(ANSWERS[type(call).__name__])]


def shown(state: State, call: Call | None) -> dict[str, Any]:
    """What both have to agree on."""
    made = None
    if isinstance(call, Start):
        made = ["start", call.wait, call.replaces is not None, call.ran_until]
    elif isinstance(call, Heartbeat | End):
        made = [type(call).__name__.lower(), None, False, None]
    return {
        "made": made,
        "status": state.status.value,
        "at": state.call_at,
        "open": state.registered.value,
        "replaces": state.replaces,
        "position": state.position,
        "waiting": state.waiting,
        "idle": state.idle,
        "back": state.given_back,
        "asking": machine.is_asking(state),
        "givenUp": machine.is_given_up(state),
    }


def story(seed: int) -> dict[str, Any]:
    """What happens to a program, and the client's states after each step."""
    rng = random.Random(seed)
    wait, held, now = rng.random() < 0.5, rng.random() < 0.5, float(NOW)
    terms = Terms(NOW + 10**7, floating=True, wait=wait, hold_lease_seconds=900 if held else None)
    state = machine.begin(terms, "first", Earlier(), 0, now)
    steps: list[dict[str, Any]] = []

    def pressed(state: State, what: str | None) -> State:
        if what == "idle":
            return machine.idle(state)
        return machine.active(state, now, Randomness(0.0, f"{seed}-{len(steps)}")) if what else state

    while len(steps) < STEPS and not (state.status in (Status.REFUSED, Status.LOST) and state.call_at is None):
        event = rng.choice(EVENTS)
        step: dict[str, Any] = {"event": event}
        call = None
        if event in ("idle", "active"):
            state = pressed(state, event)
        else:
            passed = {"sleep": rng.choice([200, 1000, 5000]), "time": rng.choice([0.5, 2, 5, 60])}.get(event, 0)
            now = max(now + passed, (state.call_at or 0.0) if event == "call" else 0.0)
            step["slept"] = now - state.seen_at > machine.POLL_SECONDS + machine.SLEEP_GAP_SECONDS
            state = machine.time_passed(state, now)
            call = machine.due_call(state, now)
        if call is not None:
            step["meanwhile"] = rng.choice([None] * 6 + ["idle", "active"])
            state = pressed(machine.call_sent(state, call), step["meanwhile"])
            answer, step["answer"] = answer_to(call, now, rng)
            state = machine.answered(state, answer, now, Randomness(0.0, f"{seed}+{len(steps)}"))
        steps.append({**step, "now": now, "state": shown(state, call)})
    return {"wait": wait, "hold": 3660 if held else 0, "end": NOW + 10**7, "begin": NOW, "steps": steps}


def test_both_clients_decide_alike() -> None:
    stories = [story(seed) for seed in range(STORIES)]
    command = [node(), "--input-type=module", "-e", PLAY, str(EXAMPLE / "session.mjs")]
    done = subprocess.run(command, input=json.dumps(stories), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    played = [step["state"]["status"] for each in stories for step in each["steps"]]
    assert {"granted", "grace", "refused", "lost", "given-back", "starting"} <= set(played)
