// Checks protocol.mjs, newer.mjs and clock.mjs against the vectors: node vectors.mjs ../../tests/vectors
// Prints the number of checks. Exit code 1 at the first difference.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { keptTime, timeAfter, timeAtStart, timeOfLease } from "./clock.mjs";
import { newerLicense } from "./newer.mjs";
import {
  TokenError, bareUser, checkLicense, clientHash, keysOf, meaning, normalized, personOf, readLease, readLicense,
  requestOf, shortHost,
} from "./protocol.mjs";

const load = (name) => JSON.parse(readFileSync(join(process.argv[2], name), "utf8"));
let checked = 0;
const check = (what, got, wanted) => {
  assert.deepEqual(got, wanted, what);
  checked += 1;
};
const checkThrows = (what, read) => {
  assert.throws(read, TokenError, what);
  checked += 1;
};

const hashes = load("client-hashes.json");
for (const { what, kind, name, normalized: wanted, hash } of hashes.vectors) {
  check(what, normalized(name), wanted);
  check(what, clientHash(hashes.salt, kind, name), hash);
}
for (const { what, account, user } of hashes.accounts) check(what, bareUser(account), user);
for (const { what, own, host } of hashes.computers) check(what, shortHost(own), host);
for (const { what, account, own, full, users, hosts, person } of hashes.sent) {
  check(what, personOf({ salt: hashes.salt, users, hosts }, account, own, full), person);
}

const licenses = load("license-files.json");
const issuer = keysOf(licenses.issuer_keys);
for (const { what, file } of licenses.not_genuine) checkThrows(what, () => readLicense(file, issuer));
for (const { what, file, now, person, code } of licenses.judged) {
  check(what, checkLicense(readLicense(file, issuer), licenses.program, person, now), code);
}
const codeOf = (file, now, person) => {
  try {
    return checkLicense(readLicense(file, issuer), licenses.program, person, now);
  } catch (error) {
    if (error instanceof TokenError) return error.code;
    throw error;
  }
};
for (const { what, file, now, person, code } of licenses.lines) check(what, codeOf(file, now, person), code);

const leases = load("leases.json");
const license = readLicense(leases.license, issuer);
for (const { what, lease, claims } of leases.genuine) {
  check(what, readLease(lease, license, leases.session, leases.nonce), claims);
}
for (const { what, lease } of leases.refused) {
  checkThrows(what, () => readLease(lease, license, leases.session, leases.nonce));
}

const newer = load("newer-files.json");
const given = readLicense(newer.given, issuer);
check("the request for a newer file", requestOf({ call: "current" }, given), newer.request);
for (const { what, reply, means, serial } of newer.replies) {
  const { current, none } = meaning("current", reply, given);
  const taken = current === undefined ? null : newerLicense(current, issuer, given);
  const found = current === undefined ? (none ? "none" : "no-answer") : taken ? "taken" : "not-taken";
  check(what, { means: found, serial: taken?.serial }, { means, serial });
}

const exchanges = load("exchanges.json");
const { session, nonce, requests } = exchanges;
const token = leases.genuine[0].lease;
for (const [what, { body, ...request }] of Object.entries(requests)) {
  const call = request.path === "/sessions" ? "start" : what; // or one that borrows or replaces
  const { user, host, replaces, borrow_seconds: borrow, ran_until: end, wait } = body ?? {};
  const given = call === "start" ? { user, host, replaces, borrow, wait } : { token };
  const made = requestOf({ call, session, ranUntil: end && Date.parse(end) / 1000, ...given }, license, nonce);
  check(what, made, { ...request, body });
}
const vectorOf = (call, found) => {
  if (found.granted) return "granted";
  if (found.gone) return "gone";
  if (found.unaccepted) return "unaccepted";
  if (found.ended) return "ended";
  if (found.done) return "done";
  if (found.refused && found.retryAfter === null) return { refused: found.refused };
  if (found.refused) return { refused: found.refused, retry_after: found.retryAfter };
  return found.retryAfter && !call.startsWith("end") ? { "no-answer": found.retryAfter } : "no-answer";
};
for (const { call, what, reply, means, ...line } of exchanges.exchanges) { // line: position and waiting, or neither
  const plain = requests[call].path === "/sessions" ? "start" : call;
  const found = meaning(plain, reply, license, session, nonce);
  const { position = null, waiting } = found;
  check(what, [vectorOf(call, found), "waiting" in line ? { position, waiting } : {}], [means, line]);
}

for (const { what, hold, steps } of load("times.json").sequences) {
  let time;
  for (const [index, { do: step, wall, monotonic, file, iat, keeps }] of steps.entries()) {
    const read = { wall, monotonic };
    if (step === "start") time = timeAtStart(file, iat, read, hold);
    else time = step === "lease" ? timeOfLease(iat, read) : timeAfter(time, read, hold);
    check(`times: ${what}, step ${index + 1}`, keptTime(time), keeps);
  }
}

console.log(checked);
