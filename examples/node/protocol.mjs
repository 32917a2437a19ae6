// The client's side of docs/protocol.md: hashes of names, license files, leases, and the meaning of replies.
// It needs only Node's standard library.

import { createHash, createHmac, createPublicKey, verify } from "node:crypto";

export const MAX_CHARACTERS = 12 * 1024;
export const FILE_LIMIT = 64 * 1024; // bytes of a license file

/** A license file, a lease or a key fails verification. `code` is that of a license file. */
export class TokenError extends Error {
  constructor(message, code = "license-malformed") {
    super(message);
    this.code = code;
  }
}

const notGenuine = (message) => new TokenError(message, "license-invalid");

const base64url = /^[A-Za-z0-9_-]*$/;

/** Decodes base64url. Throws TokenError for padding and foreign characters. */
export function decode(text) {
  const isBase64url = typeof text === "string" && base64url.test(text) && text.length % 4 !== 1;
  if (!isBase64url) throw new TokenError("is no base64url");
  return Buffer.from(text, "base64url");
}

// Names

const outerWhiteSpace = /^\p{White_Space}+|\p{White_Space}+$/gu; // trim() leaves U+0085 and takes U+FEFF

/** NFKC, trimmed, case-folded. JavaScript has no case folding; this rule gives the same result per code point. */
export function normalized(name) {
  const fold = (point) => {
    if (point === "ı") return point;
    if (/^[\u13a0-\u13fd\uab70-\uabbf]$/.test(point)) return point.toUpperCase();
    return point.toLowerCase().toUpperCase().toLowerCase().replaceAll("ς", "σ");
  };
  return [...name.normalize("NFKC").replace(outerWhiteSpace, "")].map(fold).join("");
}

/** The name alone of an account that the system gives as DOMAIN\\name or name@domain. */
export function bareUser(account) {
  const name = account.slice(account.lastIndexOf("\\") + 1);
  return name.split("@")[0] || name || account;
}

/** A computer's name up to the first dot. */
export const shortHost = (name) => name.split(".")[0] || name;

/** The hashes to send for a license: of the short names, or of the first other form that its lists have. */
export function personOf(license, account, own, full = own) {
  const chosen = (kind, names, listed) => {
    const hashes = names.map((name) => clientHash(license.salt, kind, name));
    return hashes.find((hash) => listed.includes(hash)) ?? hashes[0];
  };
  return {
    user: chosen("user", [bareUser(account), account], license.users),
    host: chosen("host", [shortHost(own), own, full], license.hosts),
  };
}

/** The hash of a name: 43 characters. `kind` is user or host, `salt` the license's claim. */
export function clientHash(salt, kind, name) {
  return createHmac("sha256", decode(salt)).update(`${kind}:${normalized(name)}`, "utf8").digest("base64url");
}

// Tokens

/** Public keys by their RFC 7638 thumbprint, from the list in a JWKS. */
export function keysOf(jwks) {
  const keys = new Map();
  for (const { kty, crv, x } of jwks ?? []) {
    if (kty !== "OKP" || crv !== "Ed25519" || typeof x !== "string") continue;
    const kid = createHash("sha256").update(JSON.stringify({ crv, kty, x })).digest("base64url");
    keys.set(kid, createPublicKey({ key: { kty, crv, x }, format: "jwk" }));
  }
  return keys;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function json(bytes) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new TokenError("holds no JSON");
  }
}

/** The claims of a token of this type that one of the keys signed. Throws TokenError for any other. */
export function verifiedClaims(token, typ, keys) {
  const parts = typeof token === "string" ? token.split(".") : [];
  if (parts.length !== 3 || token.length > MAX_CHARACTERS) throw new TokenError("is no signed text");
  const header = json(decode(parts[0]));
  if (!isObject(header)) throw new TokenError("has no header");
  const [payload, signature] = parts.slice(1).map(decode);
  if (Object.keys(header).sort().join() !== "alg,kid,typ" || header.alg !== "EdDSA") {
    throw notGenuine("is not signed as genuine ones are");
  }
  if (header.typ !== typ) throw notGenuine("is of another type");
  const key = keys.get(header.kid);
  if (!key) throw notGenuine("is signed with a key that is not trusted");
  if (!verify(null, Buffer.from(`${parts[0]}.${parts[1]}`), key, signature)) throw notGenuine("was altered");
  const claims = json(payload);
  if (!isObject(claims)) throw new TokenError("holds no claims");
  return claims;
}

const isTime = (value) => Number.isSafeInteger(value) && value >= 0;
const isText = (value) => typeof value === "string" && value !== "";
const isTexts = (value) => Array.isArray(value) && value.every((item) => typeof item === "string");

const DEFAULTS = {
  kind: "floating", seats: 0, users: [], hosts: [], features: [], collect: true, grace: 259200, hold: 0, lease: 900,
  borrow: 0,
};
const NUMBERS = ["serial", "nbf", "exp", "seats", "grace", "hold", "lease", "borrow"];

/** The text of a license file, from its bytes. Throws TokenError if they are too many, or no UTF-8. */
export function fileText(bytes) {
  if (bytes.length > FILE_LIMIT) throw new TokenError(`is larger than ${FILE_LIMIT / 1024} KiB`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); // the mark is left to jwsIn
  } catch {
    throw new TokenError("is not a text file, or not one in UTF-8");
  }
}

/** A line of a license file without its CR, and without spaces and tabs at both ends. */
function trimmed(line) {
  const isBlank = (character) => character === " " || character === "\t";
  let [start, end] = [0, line.endsWith("\r") ? line.length - 1 : line.length];
  while (start < end && isBlank(line[start])) start += 1;
  while (start < end && isBlank(line[end - 1])) end -= 1;
  return line.slice(start, end);
}

/** The JWS in a license file's text: its lines that are no comments, joined. Throws TokenError for any other text. */
export function jwsIn(text) {
  const lines = text.replace(/^\ufeff/, "").split("\n").map(trimmed);
  const counts = (line) => line !== "" && !line.startsWith("#");
  const first = lines.findIndex(counts);
  if (first < 0) throw new TokenError("is damaged: there is no signed text in it");
  const folded = lines.slice(first, lines.findLastIndex(counts) + 1);
  if (!folded.every(counts)) {
    throw new TokenError("is damaged: a blank line or a comment interrupts the signed text, or text was added");
  }
  const last = folded.pop();
  return folded.map((line) => line.replace(/=$/, "")).join("") + last;
}

/** The license in a file's text. Throws TokenError for any other text. */
export const readLicense = (text, issuerKeys) => licenseOf(jwsIn(text), issuerKeys);

/** The keys that sign leases, of a license's claim. Throws TokenError if there is none, or one is no key. */
function leaseKeysOf(jwks) {
  try {
    const keys = keysOf(jwks.keys.filter(isObject));
    if (keys.size > 0) return keys;
  } catch {
    // the claim has another type, or a key has
  }
  throw new TokenError("names no keys for leases");
}

/** The license in a JWS, with its `token` and its `keys` for leases. Throws TokenError for any other text. */
export function licenseOf(token, issuerKeys) {
  const claims = verifiedClaims(token, "license+jwt", issuerKeys);
  const license = { ...DEFAULTS, ...claims };
  const { users, hosts, features, kind, organization, maintenance_until: maintained } = license;
  if (
    !NUMBERS.every((name) => isTime(license[name])) || !isTime(maintained ?? 0) ||
    license.hold > license.grace + 60 || ![users, hosts, features].every(isTexts) ||
    ![license.sub, license.product, license.service, license.salt].every(isText) ||
    ![organization?.id, organization?.name].every(isText) || typeof license.collect !== "boolean"
  ) {
    throw new TokenError("contradicts itself");
  }
  const listed = { floating: license.collect, "named-user": users.length > 0, "node-locked": hosts.length > 0 };
  if (listed[kind] !== true) throw new TokenError("contradicts itself");
  decode(license.salt);
  return { ...license, token, keys: leaseKeysOf(license.lease_keys) };
}

/** The code of why a license does not cover a program, a person and a time (seconds); null if it does. */
export function checkLicense(license, program, person, now) {
  if (license.product !== program.product) return "product-not-licensed";
  if (now < license.nbf) return "license-not-yet-valid";
  if (now >= license.exp) return "license-expired";
  const built = Date.parse(`${program.built}T00:00:00Z`) / 1000;
  if (built > (license.maintenance_until ?? Infinity)) return "maintenance-over";
  if (!program.features.every((feature) => license.features.includes(feature))) return "feature-not-licensed";
  if (license.users.length && !license.users.includes(person.user)) return "user-not-allowed";
  if (license.hosts.length && !license.hosts.includes(person.host)) return "host-not-allowed";
  return null;
}

/** The last valid day of a license, for people; the minute (UTC) of an end within a day. `exp` is in seconds. */
export function lastDay(exp) {
  const minute = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
  return exp % 86400 === 0 ? minute(exp - 86400).slice(0, 10) : `${minute(exp)} UTC`;
}

/** The claims of a lease for this license, perhaps from an earlier run. Throws TokenError for any other token. */
export function readKeptLease(token, license) {
  const lease = verifiedClaims(token, "lease+jwt", license.keys);
  if (lease.iss !== "licensing" || lease.aud !== license.sub) throw new TokenError("is for another license");
  if (
    ![lease.iat, lease.exp, lease.grace, lease.offered ?? 0].every(isTime) || !isTexts(lease.features) ||
    typeof lease.borrowed !== "boolean" || typeof lease.overdraft !== "boolean"
  ) {
    throw new TokenError("is no lease");
  }
  return lease;
}

/** The claims of a lease that answers a request for this session with this nonce. Throws TokenError for any other. */
export function readLease(token, license, sessionId, nonce) {
  const lease = readKeptLease(token, license);
  if (lease.sub !== sessionId || lease.nonce !== nonce) throw new TokenError("answers another request");
  return lease;
}

// Calls

const utc = (seconds) => new Date(Math.floor(seconds) * 1000).toISOString().replace(".000Z", "Z");

/**
 * A call as it is sent: {method, path, headers, body}. `call` is start {session, user, host, borrow, replaces,
 * ranUntil, wait}, heartbeat or end {session, token}, ended {session, token, ranUntil}, or current; `replaces` is a
 * lease's text.
 */
export function requestOf({ call, session, token, ...given }, license, nonce) {
  const path = `/sessions/${session}`;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (call === "heartbeat") return { method: "PUT", path: `${path}/heartbeat`, headers, body: { nonce } };
  if (call === "end") return { method: "DELETE", path, headers, body: null };
  if (call === "ended") {
    return { method: "POST", path: `${path}/ended`, headers, body: { ran_until: utc(given.ranUntil) } };
  }
  if (call === "current") {
    return { method: "POST", path: "/licenses/current", headers, body: { license: license.token } };
  }
  const { user, host, borrow, replaces, ranUntil, wait } = given;
  const body = { license: license.token, session, user, host, nonce };
  if (wait) body.wait = true;
  if (borrow) body.borrow_seconds = borrow;
  if (replaces) body.replaces = replaces;
  if (replaces && ranUntil) body.ran_until = utc(ranUntil);
  return { method: "POST", path: "/sessions", headers, body };
}

// Replies

const FINAL_AT_START = {
  "license-invalid": 401, "license-not-yet-valid": 403, "license-expired": 403, "license-suspended": 403,
  "license-superseded": 403, "user-not-allowed": 403, "host-not-allowed": 403, "network-not-allowed": 403,
  "seat-recalled": 403,
};
const FINAL_WHILE_RUNNING = { "license-suspended": 403, "license-expired": 403, "seat-recalled": 403 };
const REPORT_DONE = { "malformed-request": 400, "lease-invalid": 401, "session-gone": 410 };

function body(reply, mediaType) {
  if ((reply.headers["content-type"] ?? "").split(";")[0].trim().toLowerCase() !== mediaType) return null;
  try {
    const value = JSON.parse(reply.body);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function problem(reply) {
  const found = body(reply, "application/problem+json");
  const matches = found && found.status === reply.status && found.type === `urn:licensing:problem:${found.code}`;
  return matches ? found.code : null;
}

const retryAfter = (reply) => {
  const text = reply.headers["retry-after"] ?? "";
  return /^\d{1,9}$/.test(text) ? Math.min(Number(text), 3600) : null;
};

/** A whole number of at least `least` that a reply holds, else `other`. */
const whole = (value, least, other) => (Number.isSafeInteger(value) && value >= least ? value : other);
const isNumbered = (seats) => [seats?.in_use, seats?.total].every((each) => whole(each, 0, null) !== null);
const waitingIn = ({ seats }) => (isNumbered(seats) ? whole(seats.waiting, 0, 0) : 0);

/** No seat is free: `position` is the place in line, null without one; `waiting` is how many wait. */
function noSeat(reply) {
  const found = body(reply, "application/problem+json");
  return { retryAfter: retryAfter(reply) || 60, position: whole(found.position, 1, null), waiting: waitingIn(found) };
}

/**
 * The meaning of a reply to a call (start, heartbeat, end, ended or current): {granted: reply, lease, token, waiting},
 * {refused: code, retryAfter, position, waiting}, {gone}, {unaccepted}, {ended}, {done}, {current: JWS}, {none} or {noAnswer, retryAfter}.
 */
export function meaning(call, reply, license, sessionId, nonce) {
  const noAnswer = { noAnswer: true, retryAfter: [429, 503].includes(reply.status) ? retryAfter(reply) : null };
  const code = problem(reply);
  const gone = code === "session-gone" && reply.status === 410;
  const unaccepted = code === "lease-invalid" && reply.status === 401 ? { unaccepted: true } : null;
  if (call === "ended") return reply.status === 204 || REPORT_DONE[code] === reply.status ? { done: true } : noAnswer;
  if (call === "current") {
    if (reply.status === 204 || (code === "license-invalid" && reply.status === 401)) return { none: true };
    const found = reply.status === 200 ? body(reply, "application/json")?.license : null;
    return typeof found === "string" ? { current: found } : noAnswer;
  }
  if (call === "end") return reply.status === 204 || gone ? { ended: true } : unaccepted ?? noAnswer;
  if (reply.status === 200 || (call === "start" && reply.status === 201)) {
    const granted = body(reply, "application/json");
    const seconds = granted?.heartbeat_seconds;
    if (typeof granted?.recorded !== "boolean" || !Number.isSafeInteger(seconds) || seconds < 1) return noAnswer;
    try {
      const lease = readLease(granted.lease, license, sessionId, nonce);
      return { granted, token: granted.lease, lease, waiting: waitingIn(granted) };
    } catch (error) {
      if (error instanceof TokenError) return noAnswer;
      throw error;
    }
  }
  const final = (codes) => (codes[code] === reply.status ? { refused: code, retryAfter: null } : noAnswer);
  if (call === "start") {
    if (code === "no-seat-available" && reply.status === 409) return { refused: code, ...noSeat(reply) };
    if (code === "malformed-request" && reply.status === 400) return { gone: true };
    return final(FINAL_AT_START);
  }
  return gone ? { gone: true } : unaccepted ?? final(FINAL_WHILE_RUNNING);
}
