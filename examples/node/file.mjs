// The private files (docs/protocol.md, section 12): what outlives a run. One for each seat of a user on a computer, and
// one for the fetched license files.

import { createHash, createHmac } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join, resolve as absolute } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { readKeptLease } from "./protocol.mjs";

const { platform, env } = process;
const sha256 = (text) => createHash("sha256").update(text).digest("hex").slice(0, 16);

function directory() {
  if (platform === "win32") return join(env.LOCALAPPDATA ?? join(homedir(), "AppData", "Local"), "licensing-node");
  if (platform === "darwin") return join(homedir(), "Library", "Application Support", "licensing-node");
  return join(env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "licensing-node");
}

const listen = (address) => new Promise((resolve) => {
  const server = createServer((socket) => socket.destroy()).unref();
  server.once("error", () => resolve(null)).listen(address, () => resolve(server));
});

const answers = (address) => new Promise((resolve) => {
  const socket = connect(address, () => resolve(true)).once("error", () => resolve(false));
  socket.once("close", () => socket.destroy());
});

/** Locks a path, on any disk: of two programs one can listen on a socket. The system frees it in a crash. */
async function lock(path) {
  const name = `licensing-${sha256(path)}`;
  if (platform === "win32") return listen(`\\\\.\\pipe\\${name}`);
  if (platform === "linux") return listen(`\0${name}`);
  const address = join(tmpdir(), name); // here a crash leaves the socket's name behind
  const server = await listen(address);
  if (server || await answers(address)) return server;
  rmSync(address, { force: true });
  return listen(address);
}

async function lockSoon(path) {
  for (let tries = 0; tries < 20; tries += 1) {
    const held = await lock(path);
    if (held) return held;
    await pause(20);
  }
  return null;
}

function keptLease(token, license) {
  try {
    return { token, lease: readKeptLease(token, license) };
  } catch {
    return null;
  }
}

function content(path) {
  try {
    const found = JSON.parse(readFileSync(path, "utf8"));
    return found?.format === 1 ? found : {};
  } catch {
    return {};
  }
}

const number = (value, other) => (Number.isFinite(value) ? value : other);
const text = (value) => (typeof value === "string" ? value : null);

/** What a file holds: `last` is {token, lease} or null, `time` null in a new file. Damaged members are left out. */
function parsed(found, license) {
  const ended = (Array.isArray(found.ended) ? found.ended : [])
    .map((report) => ({ ...keptLease(report?.lease, license), ranUntil: number(report?.ran_until, null) }))
    .filter(({ token, ranUntil }) => token && ranUntil !== null);
  const time = { offset: number(found.offset, 0), seen: number(found.seen, 0), wall: number(found.wall, 0) };
  return {
    last: keptLease(found.lease, license), open: text(found.open), replaces: found.replaces === true,
    borrow: number(found.borrow, null), user: text(found.user), host: text(found.host), ended,
    time: found.format ? time : null, heartbeat: number(found.heartbeat, 300), ran: number(found.ran, null),
    line: text(found.line),
  };
}

/**
 * The file for fetched license files, which all programs of one user share: {read, change}. `change` writes what
 * `update` makes of its members, and removes it for null. Where nothing can be written, nothing is kept.
 */
export function fetchedFile(license) {
  const path = join(directory(), `${sha256(license.sub)}.json`);
  const change = async (update) => {
    try {
      mkdirSync(directory(), { recursive: true, mode: 0o700 });
      const held = await lockSoon(path);
      if (!held) return;
      const members = update(content(path));
      if (members) writeWhole(path, members);
      else rmSync(path, { force: true });
      held.close();
    } catch {
      // the files are kept in memory
    }
  };
  return { read: () => content(path), change };
}

/**
 * The free file of a license with the longest lease, else a new one: {saved, write, close}. `computer` is the hash of
 * this computer's name: a file of another one, and a copy, are left alone. Without a disk to write on, nothing outlives the run.
 */
export async function openFile(license, computer) {
  const folder = directory();
  const stem = sha256(license.sub);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const found = readdirSync(folder).filter((name) => name.startsWith(`${stem}-`) && name.endsWith(".json"));
    const files = found.map((name) => ({ path: join(folder, name), kept: content(join(folder, name)) }));
    const place = (path) => createHmac("sha256", license.salt).update(`file:${absolute(path)}`).digest("base64url");
    const isOwn = ({ path, kept }) =>
      (kept.computer ?? computer) === computer && (kept.place ?? place(path)) === place(path);
    const own = files.filter(isOwn);
    const until = ({ kept }) => (kept.open ? keptLease(kept.lease, license)?.lease.exp ?? 0 : -1);
    own.sort((one, other) => until(other) - until(one));
    const numbers = found.map((name) => Number(name.slice(stem.length + 1, -5)) || 0);
    for (let next = Math.max(-1, ...numbers) + 1, tries = 0; tries < own.length + 100; tries += 1) {
      const path = own[tries]?.path ?? join(folder, `${stem}-${next++}.json`);
      const held = await lock(path);
      if (!held) continue;
      return { saved: parsed(content(path), license), write: writer(path, { computer, place: place(path) }), close: () => held.close() };
    }
  } catch {
    // the program runs on without a file
  }
  return { saved: parsed({}, license), write: () => {}, close: () => {} };
}

/** Writes a file as a whole, or not at all. */
function writeWhole(path, members) {
  const temporary = path.replace(/json$/, "new");
  rmSync(temporary, { force: true });
  writeFileSync(temporary, JSON.stringify({ format: 1, ...members }), { mode: 0o600, flag: "wx" });
  renameSync(temporary, path);
}

function writer(path, where) {
  return (members) => {
    try {
      writeWhole(path, { ...members, ...where });
    } catch {
      // a full disk costs grace after a restart, not the run
    }
  };
}
