// Holds a seat for a while, as a desktop program would:
//
//   node seat.mjs acme.lic issuer-keys.json [seconds] [--borrow SECONDS] [--wait]
//
// It takes a seat, sends heartbeats, runs on in grace, and ends the session at exit or on SIGTERM. `--borrow` takes the
// seat along for so many seconds, `--borrow 0` returns it. `--wait` waits in line for a seat. A line `idle` or `active`
// on standard input says that nobody works, or that somebody does again. Each change is a line of JSON on standard
// output. Exit code 1: no seat, or the seat was lost.
//
// protocol.mjs has hashes, license files, leases, requests and replies; clock.mjs the time; session.mjs the decisions;
// newer.mjs which license file counts; file.mjs the private files.
//
// It leaves out of docs/protocol.md: the system's proxy, the notice of a new privacy policy, and the question to the
// register whether another program uses the file, since its locks work on every disk.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { clocks, keptTime, timeAfter, timeAtStart, timeOfLease } from "./clock.mjs";
import { fetchedFile, openFile } from "./file.mjs";
import { CURABLE, FILE_REFUSALS, LicenseFiles, keptLicenses, newerLicense } from "./newer.mjs";
import {
  checkLicense, clientHash, fileText, keysOf, lastDay, meaning, personOf, readLicense, requestOf, shortHost,
} from "./protocol.mjs";
import { Session } from "./session.mjs";

const EXCHANGE_SECONDS = 10;
const START_SECONDS = 3;
const CLOSE_SECONDS = 1.8; // for all calls at the end
const SAVE_SECONDS = 2; // here the user needs so long to save the work after a seat was lost for good
const POLL_SECONDS = 15;
const SLEEP_SECONDS = 75; // a gap between two looks at a clock that means sleep
const OLD_REPLY_SECONDS = 70; // a reply that is read so late came while the computer slept
const REPLY_LIMIT = 64 * 1024;
const CONNECTING = ["getaddrinfo", "connect", "UND_ERR_CONNECT_TIMEOUT"]; // where a request fails before it is sent

const options = { borrow: { type: "string" }, wait: { type: "boolean", default: false } };
const { values, positionals } = parseArgs({ allowPositionals: true, options });
const [file, issuerFile, runSeconds = "3"] = positionals;
const wish = values.borrow === undefined ? null : Number(values.borrow);
if (!issuerFile || !(Number(runSeconds) >= 0) || !(wish === null || Number.isSafeInteger(wish))) {
  console.error("usage: node seat.mjs LICENSE_FILE ISSUER_KEYS [SECONDS] [--borrow SECONDS] [--wait]");
  process.exit(2);
}
const issuer = keysOf(JSON.parse(readFileSync(issuerFile, "utf8")).keys);
const given = readLicense(fileText(readFileSync(file)), issuer);
const shared = fetchedFile(given);
const texts = given.collect ? shared.read() : {};
const files = new LicenseFiles(given, keptLicenses(texts, issuer, given));
let license = files.terms; // of the file that counts
const program = { product: given.product, built: "2026-01-01", features: [] };
const person = personOf(license, userInfo().username, hostname());
const print = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => stop.abort());
const began = performance.now();
const left = () => (stop.signal.aborted ? 0 : Math.max(0, Number(runSeconds) - (performance.now() - began) / 1000));
let woken = new AbortController();
const sleep = (seconds) => {
  const signal = AbortSignal.any([stop.signal, woken.signal]);
  return pause(Math.min(seconds, left()) * 1000, undefined, { signal }).catch(() => {});
};

async function send({ method, path, headers, body }, signal) {
  let unsent = false; // whether it failed before the request was sent
  try {
    const reply = await fetch(given.service.replace(/\/+$/, "") + path, {
      method, redirect: "manual", signal, body: body && JSON.stringify(body),
      headers: { ...headers, Accept: "application/json", Connection: "close", "User-Agent": "licensing-example/1",
        ...(body && { "Content-Type": "application/json" }) },
    });
    const text = await reply.text();
    if (text.length <= REPLY_LIMIT) {
      return { status: reply.status, headers: Object.fromEntries(reply.headers), body: text };
    }
  } catch ({ cause }) { // no connection, no reply in time, or the program stops
    const causes = cause?.errors ?? [cause]; // of each address
    unsent = causes.every((each) => CONNECTING.includes(each?.syscall ?? each?.code));
  }
  return { status: 0, headers: {}, body: "", unsent };
}

/** Seconds between two looks, by the clock that shows more. */
const passedBetween = (first, second) =>
  Math.max(Math.abs(second.wall - first.wall), second.monotonic - first.monotonic);

/** Makes a call, and says what its reply means. `call.file` is the license to send, by default that which counts. */
async function ask(call, seconds, ...signals) {
  const nonce = randomBytes(24).toString("base64url");
  const timeout = AbortSignal.timeout(Math.max(1, Math.round(seconds * 1000)));
  const sent = clocks();
  const reply = await send(requestOf(call, call.file ?? license, nonce), AbortSignal.any([timeout, ...signals]));
  if (passedBetween(sent, clocks()) > OLD_REPLY_SECONDS) return { noAnswer: true }; // it slept meanwhile
  return { ...meaning(call.call, reply, license, call.session, nonce), unsent: reply.unsent, sent };
}

let session = null;

/** How many seconds the next exchange may take. */
function allowed() {
  if (!session) return START_SECONDS - (performance.now() - began) / 1000;
  return session.status === "starting" ? START_SECONDS - (now() - session.began) : EXCHANGE_SECONDS;
}

/** The files have changed: keeps those that were fetched, and goes by the terms of the one that counts. */
async function filesChanged() {
  license = files.terms;
  if (session) session.license = license;
  await shared.change((kept) => files.toKeep(keptLicenses(kept, issuer, given)));
}

/** Fetches a newer license file: true if one was taken, false if there is none, null without an answer. */
async function fetchNewer(seconds = EXCHANGE_SECONDS) {
  const answer = await ask({ call: "current", file: files.candidate ?? files.counting }, Math.min(allowed(), seconds), stop.signal);
  if (answer.noAnswer) return null;
  const found = answer.current ? newerLicense(answer.current, issuer, given) : null;
  if (!found || found.serial <= files.newestSerial) return false;
  files.take(found);
  await filesChanged();
  print("newer-license", { serial: found.serial, until: found.exp, valid_to: lastDay(found.exp) });
  return true;
}

const isUsed = (text) => !text || [files.granted?.token, files.pending?.token].includes(text);
if (![texts.granted, texts.pending].every(isUsed)) await filesChanged(); // the given one is newer

const computer = clientHash(license.salt, "host", shortHost(hostname()));
const { saved, write, close } = license.collect ? await openFile(license, computer) : { saved: {} };
let time = timeAtStart(saved.time, saved.last?.lease.iat ?? null, clocks(), license.hold);
const now = () => (time = timeAfter(time, clocks(), license.hold)).now;

/** The code of why a file does not cover the program, by either clock, or null. */
const refusalOf = (one) =>
  checkLicense(one, program, person, Date.now() / 1000) && checkLicense(one, program, person, now());
const hasNewer = () => files.toStart(refusalOf) !== files.counting;
const refusal = () => {
  const { counting } = files;
  return hasNewer() ? null : refusalOf({ ...counting, exp: Math.max(counting.exp, saved.last?.lease.exp ?? 0) });
};
if (license.collect && CURABLE.includes(refusal())) await fetchNewer();
const code = refusal();
if (code) {
  print("refused", { code, ...(code === "license-expired" && { valid_to: lastDay(files.counting.exp) }) });
  process.exit(1);
}
if (!license.collect) {
  print("granted", { until: license.exp }); // without any call, and without a file
  await sleep(Infinity);
  process.exit(0);
}

const earlier = { ...saved, ran: saved.ran ?? saved.time?.seen ?? null };
session = new Session(license, earlier, wish, values.wait, now(), print);
const reports = saved.ended; // the service has not answered these yet
let heartbeat = saved.heartbeat;

/** The hashes that a session is, or was, started with: its repeats send the same. */
const kept = saved.user && saved.host ? { user: saved.user, host: saved.host } : person;
const personAt = (id) => (id === saved.open ? kept : person);

function save() {
  const ran = session.running ? now() : session.ranUntil;
  now();
  const open = session.openId;
  const ended = reports.slice(-10).map(({ token, ranUntil }) => ({ lease: token, ran_until: ranUntil }));
  write({
    lease: session.last?.token ?? null, open, replaces: session.isGivenUp, borrow: open && session.wish,
    user: open && personAt(open).user, host: open && personAt(open).host, ...keptTime(time), heartbeat, ran, ended,
    line: session.lineId,
  });
}

/** Tells the service until when programs ran whose sessions had ended; what it does not answer is kept. */
async function sendReports(seconds, ...signals) {
  while (reports.length) {
    const { token, lease, ranUntil } = reports[0];
    const answer = await ask({ call: "ended", session: lease.sub, token, ranUntil }, seconds, ...signals);
    if (!answer.done) return;
    reports.shift();
    save();
  }
}

/**
 * Sends a start, with the newest file. If its file is refused, the same start follows with the former one, or with one
 * that is fetched: a wrong file locks nobody out.
 */
async function start(call) {
  let [newer, former] = [null, null]; // refusals of a start with such a file
  for (;;) {
    const used = files.toStart(refusalOf);
    const answer = await ask({ ...call, ...personAt(call.session), file: used }, allowed(), stop.signal);
    if (answer.granted && used !== files.counting) {
      files.grant(used);
      await filesChanged();
    }
    if (!FILE_REFUSALS.includes(answer.refused)) return answer;
    if (used !== files.counting) {
      newer = answer;
      files.refused.add(used.serial);
      await filesChanged();
      if (former) return newer;
    } else {
      const asked = former !== null;
      former = answer;
      const curable = !asked && CURABLE.includes(answer.refused) && session.counts(answer.refused);
      if (!curable || !(await fetchNewer()) || !hasNewer()) return newer ?? former;
    }
  }
}

/** A heartbeat was refused: whether a newer file has come, with which a start replaces the session. */
const isCured = async ({ call }, { refused: code }) =>
  call === "heartbeat" && code === "license-expired" && session.counts(code) && (await fetchNewer()) && hasNewer();

let foundNone = 0; // the serial for which the service had no newer file

/** Fetches a newer file if a reply to a start or heartbeat tells of one. Without an answer, after the next reply. */
async function fetchIfNewer({ license_serial: serial }) {
  if (!Number.isSafeInteger(serial) || serial <= Math.max(files.newestSerial, foundNone)) return;
  if ((await fetchNewer(session.callAt - now())) === false) foundNone = serial; // before the next call is due
}

const activity = createInterface({ input: process.stdin });
activity.on("line", (line) => { // it is neither sent nor stored
  if (line.trim() === "idle") session.idle = true;
  else if (line.trim() === "active") session.work(now());
  else return;
  woken.abort();
  woken = new AbortController();
});

let looked = clocks();
let judgedEnd = 0; // an end of the license for which a newer file was sought
while (left() > 0) {
  const look = clocks();
  const slept = passedBetween(looked, look) >= SLEEP_SECONDS;
  looked = look;
  let asksFirst = slept;
  if (session.running && !slept && now() >= session.licenseEnd && session.licenseEnd !== judgedEnd) {
    judgedEnd = session.licenseEnd;
    asksFirst = await fetchNewer(); // with a newer file, a heartbeat brings a lease on its terms
  }
  session.passed(now(), asksFirst);
  if (session.status === "refused" && !session.asking) break;
  if (session.status === "lost" && session.callAt === Infinity) {
    await sleep(SAVE_SECONDS);
    break;
  }
  const call = session.due(now());
  if (!call) {
    const times = [session.callAt, session.last?.lease.exp ?? 0, session.last ? session.graceEnd : 0, session.licenseEnd];
    await sleep(Math.min(POLL_SECONDS, ...times.map((each) => each - now()).filter((seconds) => seconds > 0)));
    continue;
  }
  save(); // a crash before the answer must not cost a second seat
  const answer = call.call === "start" ? await start(call) : await ask(call, allowed(), stop.signal);
  if (await isCured(call, answer)) {
    session.renew(now());
    continue;
  }
  if (answer.granted) {
    time = timeOfLease(answer.lease.iat, answer.sent);
    heartbeat = answer.granted.heartbeat_seconds;
  }
  const { last } = session;
  const ranBefore = answer.granted ? session.ranBefore(call, now()) : null;
  session.answered(answer, now());
  if (ranBefore !== null) reports.push({ token: last.token, lease: last.lease, ranUntil: ranBefore });
  if (call.call === "end" && answer.ended && now() >= last.lease.exp) { // it had lapsed before, on a silent program
    reports.push({ token: last.token, lease: last.lease, ranUntil: session.ranUntil });
  }
  save();
  if (!answer.noAnswer) await sendReports(EXCHANGE_SECONDS, stop.signal);
  if (answer.granted && !answer.lease.offered) await fetchIfNewer(answer.granted); // not before it is confirmed
}

activity.close();
process.stdin.destroy();
if (session.running) session.ranUntil = now();
process.exitCode = session.running || session.status === "given-back" ? 0 : 1;
const last = session.atEnd();
if (last) {
  const { lease } = session.last;
  const takeBack = session.ending();
  save();
  const signal = AbortSignal.timeout(CLOSE_SECONDS * 1000);
  const answer = await ask(last, CLOSE_SECONDS, signal);
  if (answer.ended || answer.unsent) takeBack();
  const ranUntil = answer.ended ? session.ended(now()) : null; // null: the service knows, or the next run says it
  if (ranUntil !== null) reports.push({ token: last.token, lease, ranUntil });
  print(answer.ended ? "ended" : "lapses");
  save();
  if (answer.ended) await sendReports(CLOSE_SECONDS, signal);
} else {
  save();
}
close();
