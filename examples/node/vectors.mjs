// Checks protocol.mjs against the vectors: node vectors.mjs ../../tests/vectors
// Prints how many were checked; exit code 1 at the first that differs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { NotGenuine, clientHash, judged, keysOf, meaning, normalized, readLease, readLicense } from "./protocol.mjs";

const load = (name) => JSON.parse(readFileSync(join(process.argv[2], name), "utf8"));
let checked = 0;
const check = (what, got, wanted) => {
  assert.deepEqual(got, wanted, what);
  checked += 1;
};
const refuses = (what, read) => {
  assert.throws(read, NotGenuine, what);
  checked += 1;
};

const hashes = load("client-hashes.json");
for (const { what, kind, name, normalized: wanted, hash } of hashes.vectors) {
  check(what, normalized(name), wanted);
  check(what, clientHash(hashes.salt, kind, name), hash);
}

const licenses = load("license-files.json");
const issuer = keysOf(licenses.issuer_keys);
for (const { what, file } of licenses.not_genuine) refuses(what, () => readLicense(file, issuer));
for (const { what, file, now, person, code } of licenses.judged) {
  check(what, judged(readLicense(file, issuer), licenses.program, person, now), code);
}

const leases = load("leases.json");
const license = readLicense(leases.license, issuer);
for (const { what, lease, claims } of leases.genuine) {
  check(what, readLease(lease, license, leases.session, leases.nonce), claims);
}
for (const { what, lease } of leases.refused) {
  refuses(what, () => readLease(lease, license, leases.session, leases.nonce));
}

const exchanges = load("exchanges.json");
const plain = (call, found) => {
  if (found.granted) return "granted";
  if (found.gone) return "gone";
  if (found.unaccepted) return "unaccepted";
  if (found.ended) return "ended";
  if (found.refused && found.retryAfter === null) return { refused: found.refused };
  if (found.refused) return { refused: found.refused, retry_after: found.retryAfter };
  return found.retryAfter && call !== "end" ? { "no-answer": found.retryAfter } : "no-answer";
};
for (const { call, what, reply, means } of exchanges.exchanges) {
  const found = meaning(call === "borrow" ? "start" : call, reply, license, exchanges.session, exchanges.nonce);
  check(what, plain(call, found), means);
}

console.log(checked);
