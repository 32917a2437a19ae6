// Holds a seat for a while, as a desktop program would: node seat.mjs acme.lic issuer-keys.json [seconds]
//
// It takes a seat, sends heartbeats, runs on in grace, starts a new session when its own is gone, and ends the session
// at exit or on SIGTERM. Each change is a line of JSON on standard output. Exit code 1: no seat, or the seat was lost.
// It leaves out of docs/protocol.md: the private file, so grace does not survive a restart; borrowing; waiting for a
// seat; detecting that the computer slept.

import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { checkLicense, keysOf, meaning, personOf, readLicense } from "./protocol.mjs";

const [file, issuerFile, runSeconds = "3"] = process.argv.slice(2);
const license = readLicense(readFileSync(file, "utf8"), keysOf(JSON.parse(readFileSync(issuerFile, "utf8")).keys));
const program = { product: license.product, built: "2026-01-01", features: [] };
const person = personOf(license, userInfo().username, hostname());
const EXCHANGE_MS = 10_000;
const CLOSE_MS = 1_800;
const print = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => stop.abort());
const sleep = (seconds) => pause(seconds * 1000, undefined, { signal: stop.signal }).catch(() => {});

async function send(method, path, { token, body, timeoutMs } = {}) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  // The end of the session has its own timeout; every other request is cancelled when the program stops.
  const timeout = AbortSignal.timeout(timeoutMs ?? EXCHANGE_MS);
  const signal = timeoutMs ? timeout : AbortSignal.any([timeout, stop.signal]);
  try {
    const reply = await fetch(license.service.replace(/\/+$/, "") + path, {
      method, headers, body: body && JSON.stringify(body), redirect: "manual", signal,
    });
    return { status: reply.status, headers: Object.fromEntries(reply.headers), body: await reply.text() };
  } catch {
    return { status: 0, headers: {}, body: "" };
  }
}

async function ask(call, sessionId, token) {
  const nonce = randomBytes(24).toString("base64url");
  const path = `/sessions/${sessionId}`;
  const start = { license: license.token, session: sessionId, ...person, nonce };
  const reply =
    call === "start" ? await send("POST", "/sessions", { body: start })
    : call === "heartbeat" ? await send("PUT", `${path}/heartbeat`, { token, body: { nonce } })
    : await send("DELETE", path, { token, timeoutMs: CLOSE_MS });
  return meaning(call, reply, license, sessionId, nonce);
}

const refusal = checkLicense(license, program, person, Date.now() / 1000);
if (refusal) {
  print("refused", { code: refusal });
  process.exit(1);
}

if (!license.collect) {
  print("granted", { until: license.exp }); // without any call
  await sleep(Number(runSeconds));
  process.exit(0);
}

let status = "starting";
let sessionId = randomUUID();
let active = null; // {token, lease}: the session that the register holds for us
let stale = null; // the same, to be ended before another session starts
let last = null; // the last one that was active: grace counts from its lease
let sentId = null; // the id of a start without an answer: its session may be active
let serviceTime = () => 0; // the service's time, once there is a lease
let failures = 0;
let unconfirmed = null; // what came once and counts when it comes twice

const began = performance.now();
const finished = () => stop.signal.aborted || performance.now() - began >= Number(runSeconds) * 1000;

while (!finished()) {
  const call = stale ? "end" : active ? "heartbeat" : "start";
  const target = stale ?? active;
  const repeated = call === "start" && sentId === sessionId;
  if (call === "start") sentId = sessionId;
  const answer = await ask(call, target?.lease.sub ?? sessionId, target?.token);
  let waitSeconds = 0;
  if (answer.granted) {
    active = { token: answer.token, lease: answer.lease };
    [last, sentId] = [active, null];
    const [issuedAt, readAt] = [answer.lease.iat, performance.now()];
    serviceTime = () => issuedAt + (performance.now() - readAt) / 1000;
    const change = status === "starting" ? "granted" : "restored";
    if (status !== "granted") print(change, { session: sessionId, until: answer.lease.exp });
    status = "granted";
    [failures, unconfirmed] = [0, null];
    const halfLease = (answer.lease.exp - answer.lease.iat) / 2;
    const intervalSeconds = Math.max(1, Math.min(answer.granted.heartbeat_seconds, halfLease));
    waitSeconds = intervalSeconds * (0.8 + 0.2 * Math.random());
  } else if (answer.ended) {
    [stale, failures] = [null, 0];
  } else if (answer.unaccepted) {
    [stale, active] = [null, null];
    sessionId = sentId = target.lease.sub; // it may be active: start it again
  } else if (answer.gone && repeated && unconfirmed !== "session-id-taken") {
    unconfirmed = "session-id-taken"; // it may be ours, and the request damaged: only a second such reply counts
    waitSeconds = 1;
  } else if (answer.gone) {
    stale = active ?? (last?.lease.sub === sessionId ? last : null);
    [active, sessionId, sentId, unconfirmed] = [null, randomUUID(), null, null];
    if (call === "start") waitSeconds = 1; // its id is somebody else's
  } else if (answer.refused && status !== "starting" && unconfirmed !== answer.refused) {
    if (!repeated) sentId = null;
    unconfirmed = answer.refused; // refusals are not signed: only a second one stops the program
    waitSeconds = 3 * (1 + Math.random() / 2);
  } else if (answer.refused) {
    print(status === "starting" ? "refused" : "lost", { code: answer.refused });
    process.exitCode = 1;
    break;
  } else {
    failures += 1;
    waitSeconds = Math.max(answer.retryAfter ?? 0, Math.min(2 ** (failures - 1), 300) * (0.5 + 0.5 * Math.random()));
    if (!last && failures >= 2) {
      print("refused", { code: "no-answer" });
      process.exitCode = 1;
      break;
    }
  }
  if (last && status === "granted" && serviceTime() >= last.lease.exp) {
    status = "grace";
    print("grace", { left: last.lease.iat + last.lease.grace - serviceTime() });
  }
  const graceEnd = last && Math.min(Math.max(last.lease.exp, last.lease.iat + last.lease.grace), license.exp);
  if (last && status === "grace" && serviceTime() >= graceEnd) {
    print("lost", { code: "grace-over" });
    process.exitCode = 1;
    break;
  }
  await sleep(Math.min(waitSeconds, Math.max(0, Number(runSeconds) - (performance.now() - began) / 1000)));
}

const open = active ?? stale ?? (last && sentId === last.lease.sub ? last : null);
if (open) {
  const answer = await ask("end", open.lease.sub, open.token);
  print(answer.ended ? "ended" : "lapses");
}
