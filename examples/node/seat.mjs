// Holds a seat for a while, as a desktop program would: node seat.mjs acme.lic issuer-keys.json [seconds]
//
// It takes a seat, sends heartbeats, goes on in grace, starts again when its session is gone, and gives the seat back
// at the end or on SIGTERM. Each change is a line of JSON on standard output. Exit code 1: no seat, or it was lost.
// What it leaves out of docs/protocol.md: the private file, so that its grace does not outlive it; borrowing; waiting
// for a seat; and noticing that the computer slept.

import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { clientHash, judged, keysOf, meaning, readLicense } from "./protocol.mjs";

const [file, issuerFile, seconds = "3"] = process.argv.slice(2);
const license = readLicense(readFileSync(file, "utf8"), keysOf(JSON.parse(readFileSync(issuerFile, "utf8")).keys));
const program = { product: license.product, built: "2026-01-01", features: [] };
const person = {
  user: clientHash(license.salt, "user", userInfo().username),
  host: clientHash(license.salt, "host", hostname()),
};
const EXCHANGE_MS = 10_000;
const CLOSE_MS = 1_800;
const tell = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => stop.abort());
const asleep = (time) => pause(time * 1000, undefined, { signal: stop.signal }).catch(() => {});

async function send(method, path, { token, body, limit } = {}) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  // What is said at the end has its own limit; everything else is cut when the end comes.
  const signal = limit ? AbortSignal.timeout(limit) : AbortSignal.any([AbortSignal.timeout(EXCHANGE_MS), stop.signal]);
  try {
    const reply = await fetch(license.service.replace(/\/+$/, "") + path, {
      method, headers, body: body && JSON.stringify(body), redirect: "manual", signal,
    });
    return { status: reply.status, headers: Object.fromEntries(reply.headers), body: await reply.text() };
  } catch {
    return { status: 0, headers: {}, body: "" };
  }
}

async function ask(call, session, token) {
  const nonce = randomBytes(24).toString("base64url");
  const path = `/sessions/${session}`;
  const reply =
    call === "start" ? await send("POST", "/sessions", { body: { license: license.token, session, ...person, nonce } })
    : call === "heartbeat" ? await send("PUT", `${path}/heartbeat`, { token, body: { nonce } })
    : await send("DELETE", path, { token, limit: CLOSE_MS });
  return meaning(call, reply, license, session, nonce);
}

const refusal = judged(license, program, person, Date.now() / 1000);
if (refusal) {
  tell("refused", { code: refusal });
  process.exit(1);
}

if (!license.collect) {
  tell("granted", { until: license.exp }); // and nobody is asked
  await asleep(Number(seconds));
  process.exit(0);
}

let status = "starting";
let session = randomUUID();
let held = null; // {token, lease}: the session that the register holds for us
let stale = null; // the same, when it has to be ended before another starts
let last = null; // the last lease that was held, on which grace is counted
let sent = null; // the id of a start that was not answered: its session may be active
let clock = () => 0; // the service's time, from the last lease on
let failures = 0;
let doubted = null;
let interval = 0;

const began = performance.now();
const over = () => stop.signal.aborted || performance.now() - began >= Number(seconds) * 1000;

while (!over()) {
  const call = stale ? "end" : held ? "heartbeat" : "start";
  const about = stale ?? held;
  const repeated = call === "start" && sent === session;
  if (call === "start") sent = session;
  const answer = await ask(call, about?.lease.sub ?? session, about?.token);
  let wait = 0;
  if (answer.granted) {
    held = { token: answer.token, lease: answer.lease };
    [last, sent] = [held, null];
    const [told, at] = [answer.lease.iat, performance.now()];
    clock = () => told + (performance.now() - at) / 1000;
    if (status !== "granted") tell(status === "starting" ? "granted" : "restored", { session, until: answer.lease.exp });
    status = "granted";
    [failures, doubted] = [0, null];
    interval = Math.max(1, Math.min(answer.granted.heartbeat_seconds, (answer.lease.exp - answer.lease.iat) / 2));
    wait = interval * (0.8 + 0.2 * Math.random());
  } else if (answer.ended) {
    [stale, failures] = [null, 0];
  } else if (answer.unaccepted) {
    [stale, held, session, sent] = [null, null, about.lease.sub, about.lease.sub]; // it may be active: start it again
  } else if (answer.gone && repeated && doubted !== "foreign") {
    doubted = "foreign"; // it may be ours, and the request was damaged: hear it twice
    wait = 1;
  } else if (answer.gone) {
    stale = held ?? (last?.lease.sub === session ? last : null);
    [held, session, sent, doubted] = [null, randomUUID(), null, null];
    if (call === "start") wait = 1; // its id is somebody else's
  } else if (answer.refused && status !== "starting" && doubted !== answer.refused) {
    if (!repeated) sent = null;
    doubted = answer.refused; // a refusal is not signed: hear it twice before work is stopped
    wait = 3 * (1 + Math.random() / 2);
  } else if (answer.refused) {
    tell(status === "starting" ? "refused" : "lost", { code: answer.refused });
    process.exitCode = 1;
    break;
  } else {
    failures += 1;
    wait = Math.max(answer.retryAfter ?? 0, Math.min(2 ** (failures - 1), 300) * (0.5 + 0.5 * Math.random()));
    if (!last && failures >= 2) {
      tell("refused", { code: "no-answer" });
      process.exitCode = 1;
      break;
    }
  }
  if (last && status === "granted" && clock() >= last.lease.exp) {
    status = "grace";
    tell("grace", { left: last.lease.iat + last.lease.grace - clock() });
  }
  if (last && status === "grace" && clock() >= Math.min(Math.max(last.lease.exp, last.lease.iat + last.lease.grace), license.exp)) {
    tell("lost", { code: "grace-over" });
    process.exitCode = 1;
    break;
  }
  await asleep(Math.min(wait, Math.max(0, Number(seconds) - (performance.now() - began) / 1000)));
}

const open = held ?? stale ?? (last && sent === last.lease.sub ? last : null);
if (open) {
  const answer = await ask("end", open.lease.sub, open.token);
  tell(answer.ended ? "ended" : "lapses");
}
