// The service's time (docs/protocol.md, section 9), kept with the computer's two clocks. All times are seconds.

import { uptime } from "node:os";

const STEP = 1; // by more than this the clocks have to differ to count as set, or as slept

/** The computer's clocks. The monotonic one counts sleep, except on macOS, where uptime follows the wall clock. */
export const clocks = () => ({
  wall: Date.now() / 1000,
  monotonic: process.platform === "darwin" ? performance.now() / 1000 : uptime(),
});

/**
 * The time at a start: {now, offset, wall, monotonic}. `kept` is the file's time or null, `iat` the last lease's. Under a
 * hold the wall clock is right at a start and after sleep, and what was learnt before may come from one that was ahead.
 */
export function timeAtStart(kept, iat, { wall, monotonic }, hold) {
  if (!kept) return { now: wall, offset: 0, wall, monotonic };
  const seen = Math.max(kept.seen, iat ?? 0);
  const withOffset = wall + kept.offset;
  const nearer = Math.abs(wall - seen) <= Math.abs(withOffset - seen) ? wall : withOffset;
  const guess = Math.max(wall < kept.wall ? nearer : withOffset, hold ? wall : -Infinity);
  const now = Math.max(guess, seen);
  return { now, offset: (guess < (iat ?? 0) ? now : guess) - wall, wall, monotonic };
}

/** The time after a lease that was issued at `iat` has answered. */
export const timeOfLease = (iat, { wall, monotonic }) => ({ now: iat, offset: iat - wall, wall, monotonic });

/** The time at the next reading of the clocks; `hold` as at a start. */
export function timeAfter(time, { wall, monotonic }, hold) {
  const byWall = wall - time.wall;
  const passed = Math.max(0, monotonic - time.monotonic);
  const slept = byWall > passed + STEP ? byWall - passed : 0; // or set ahead
  const setBack = passed > byWall + STEP ? passed - byWall : 0;
  const least = hold && (slept || setBack) ? wall : -Infinity;
  return { now: Math.max(time.now + passed + slept, least), offset: time.offset + setBack, wall, monotonic };
}

/** What the private file keeps of a time. */
export const keptTime = ({ now, offset, wall }) => ({ offset, seen: now, wall });
