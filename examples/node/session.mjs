// What a program decides (docs/protocol.md, sections 10, 11 and 13): whether it may run, and which call comes next.
// It reads no clock and makes no call. Times are seconds of the service's time (clock.mjs).

import { randomUUID } from "node:crypto";

const START_SECONDS = 3; // a start is decided by then
const BACKOFF_LIMIT = 300;
const GIVE_BACK_SECONDS = 60; // at least, from one giving back to the next
const REMINDERS = [86400, 3600, 600]; // the user is told when so much is left of grace
const between = (low, high) => low + (high - low) * Math.random();
const soon = (now) => now + 3 * between(1, 1.5);

export class Session {
  status = "starting"; // then granted or grace, in which the program may run; refused, lost or given-back: it may not
  open = "nothing"; // what the register may hold: nothing; asked (a start without an answer); seat (that of `last`)
  id = randomUUID(); // of the next start, or of the one without an answer
  last = null; // {token, lease}: the last lease, of any session
  replaces = false; // the next start replaces the session of `last`, which gets no other call
  givenUp = null; // since when that session may have ended: then its seat may be somebody else's
  wish = null; // seconds to borrow, 0 to return, until an answer has fulfilled it
  ranUntil = null; // until when the program ran on the session of `last`
  unanswered = null; // the id of a start that may have been granted
  repeated = false; // the last start was such a one
  heard = null; // a refusal, or gone, that came once and counts when it comes twice
  refusal = null; // the service's refusal in this run, until a grant
  unrecorded = false; // it needs no calls
  sentAt = 0; // when the last call was due
  notAccepted = 0; // how often in a row the lease was not accepted
  position = null; // the place in line, 1 is next
  waiting = 0; // how many wait, as the last answer said
  idle = false; // nobody works
  givenBack = false; // the seat was given back for that, and none granted since
  gaveBackAt = null; // when one was last
  notBefore = 0; // the service wants no call sooner, as its last answer to an end said
  endSent = false; // the end of that session is under way
  code = null; // of the refusal that the user was told
  failures = 0;
  reminded = 0;

  /** `earlier` is what the private file has; `tell(what, more)` tells the user; `wait`: the user wants to wait. */
  constructor(license, earlier, wish, wait, now, tell) {
    Object.assign(this, { license, tell, wait, wish: wish || null, began: now, callAt: now });
    Object.assign(this, { last: earlier.last, ranUntil: earlier.ran, id: earlier.line ?? this.id });
    if (!earlier.open) return;
    this.wish = wish ?? earlier.borrow;
    this.givenUp = earlier.replaces ? 0 : null;
    if (earlier.open !== this.last?.lease.sub) { // its start was never answered: repeat it
      Object.assign(this, { open: "asked", id: earlier.open, unanswered: earlier.open });
      this.replaces = earlier.replaces && this.last !== null;
      return;
    }
    this.open = "seat";
    this.replaces = true;
    if (this.last.lease.borrowed && now < this.last.lease.exp && !earlier.replaces) {
      this.id = earlier.open;
      this.grant();
      this.replaces = wish === 0;
      this.wish = this.replaces ? 0 : null;
    }
  }

  /** The end of the license, as its files say, or a lease that was granted on newer terms. */
  get licenseEnd() {
    return Math.max(this.license.exp, this.last?.lease.exp ?? 0);
  }

  get running() {
    return this.status === "granted" || this.status === "grace";
  }

  /** Whether it waits in line if no seat is free. Others may have the seat that it gave back. */
  get waits() {
    return this.wait || this.givenBack;
  }

  /** Whether it asks again without the user's doing. */
  get asking() {
    return this.callAt < Infinity && (this.status === "lost" || (this.status === "refused" && this.waits));
  }

  /** The session id that has a place in line, for the private file: after a crash another would take a second place. */
  get lineId() {
    return this.position === null ? null : this.id;
  }

  /** Until when the program may run without another answer; under a hold, only while a successor's seat lasts. */
  get graceEnd() {
    const { iat, exp, grace } = this.last.lease;
    const held = this.license.hold && this.givenUp !== null ? this.givenUp + this.license.lease : Infinity;
    return Math.min(Math.max(exp, iat + grace), this.licenseEnd, held);
  }

  /** The id of the session that the register may hold, for the private file. */
  get openId() {
    return { nothing: null, asked: this.id, seat: this.last?.lease.sub }[this.open];
  }

  /** Whether the next run replaces the session of `last`, or may not use it again, for the private file. */
  get isGivenUp() {
    if (this.givenBack && this.license.hold && this.open === "seat") return true;
    return this.replaces && (this.open === "asked" || this.givenUp !== null);
  }

  // Calls

  /** The call that is due, or null. */
  due(now) {
    if (now < this.callAt) return null;
    this.sentAt = now;
    if (this.open === "seat" && !this.replaces) {
      this.endSent = this.status === "given-back";
      return { call: this.endSent ? "end" : "heartbeat", session: this.last.lease.sub, token: this.last.token };
    }
    if (this.id === this.last?.lease.sub && this.replaces) this.id = randomUUID();
    this.repeated = this.unanswered === this.id;
    Object.assign(this, { open: "asked", unanswered: this.id });
    if (this.running) this.ranUntil = now;
    const replaces = this.replaces ? { replaces: this.last.token, ranUntil: this.ranUntil } : {};
    return { call: "start", session: this.id, borrow: this.wish, wait: this.waits && !this.trading, ...replaces };
  }

  /** The call that ends the session at the program's end, or null. A borrowed seat is kept, unless it is replaced. */
  atEnd() {
    const own = this.openId === this.last?.lease.sub && !this.last?.lease.borrowed;
    if (!this.last || this.open === "nothing" || !(own || this.replaces)) return null;
    return { call: "end", session: this.last.lease.sub, token: this.last.token };
  }

  /** The end is about to be sent: under a hold no later run may use the lease. Returns how to take that back. */
  ending() {
    const { replaces, givenUp } = this;
    if (this.license.hold) Object.assign(this, { replaces: true, givenUp: 0 });
    return () => Object.assign(this, { replaces, givenUp });
  }

  /** The session is over. Returns until when the program ran if the service cannot know it, else null. */
  ended(now) {
    if (this.open === "asked" && this.replaces) return null; // that start may hold a seat: the next run repeats it
    const unknown = this.open === "seat" && (now >= this.last.lease.exp || (this.replaces && !this.givenBack));
    if (this.license.hold) this.last = null;
    Object.assign(this, { open: "nothing", replaces: false });
    return unknown ? this.ranUntil : null;
  }

  /**
   * Until when the program ran on the session that a granted start replaces, to be reported; null if the service knows.
   * It ignores what the start says of a session that was over. From its first try on, the new session may count.
   */
  ranBefore({ replaces, ranUntil }, now) {
    if (!replaces || ranUntil === null || (now < this.last.lease.exp && this.givenUp === null)) return null;
    return this.repeated && this.givenUp ? Math.min(ranUntil, this.givenUp) : ranUntil;
  }

  // Events

  /** Time has passed. After sleep, or with a newer license file, the service is asked before the time is judged. */
  passed(now, asksFirst) {
    if (asksFirst && this.callAt < Infinity) {
      Object.assign(this, { callAt: now, failures: 0 });
      // Under a hold, the seat of a program whose grace is over may be somebody else's.
      if (this.running && this.license.hold && now >= this.graceEnd) this.judge(now);
      return;
    }
    if (this.running) this.ranUntil = now;
    if (this.status === "starting" && now >= this.began + START_SECONDS) this.unansweredStart(now);
    if (this.running) this.judge(now);
    if (this.givesBack(now)) this.giveBack(now);
  }

  /** Somebody works with the program: one that gave its seat back asks for another. */
  work(now) {
    this.idle = false;
    if (this.status !== "given-back") return;
    Object.assign(this, { status: "starting", id: randomUUID(), replaces: this.open === "seat", code: null });
    Object.assign(this, { began: now, callAt: Math.max(now, this.notBefore), failures: 0 });
  }

  /** The call that was due has this answer (`meaning` in protocol.mjs). */
  answered(answer, now) {
    if (this.running) this.ranUntil = now;
    if (this.endSent) this.endAnswered(answer, now);
    else if (answer.granted) this.granted(answer, now);
    else if (answer.refused) this.refused(answer, now);
    else if (answer.gone) this.gone(now);
    else if (answer.unaccepted) this.unaccepted(now);
    else this.noAnswer(answer, now);
  }

  granted({ granted, token, lease, waiting }, now) {
    const start = this.open === "asked";
    if (!start) this.notAccepted = 0;
    Object.assign(this, { last: { token, lease }, open: "seat", replaces: false, givenUp: null, unanswered: null });
    Object.assign(this, { refusal: null, heard: null, failures: 0, reminded: 0 });
    Object.assign(this, { position: null, waiting: granted.recorded ? waiting : 0 });
    this.grant();
    if (!granted.recorded && this.license.kind !== "floating") {
      Object.assign(this, { unrecorded: true, open: "nothing", callAt: Infinity, wish: null });
      return;
    }
    const half = lease.exp !== this.license.exp ? (lease.exp - lease.iat) / 2 : Infinity;
    const interval = Math.max(1, Math.min(granted.heartbeat_seconds, half)) * between(0.8, 1);
    const confirms = start && lease.offered && this.notAccepted < 2; // at once
    this.callAt = confirms ? now : now + interval;
    if (this.wish !== null) this.fulfil(lease, start, now);
  }

  /** The answer to a call while there was a wish to borrow, or to return. */
  fulfil(lease, start, now) {
    const borrowed = lease.offered ? lease.offered > lease.exp : lease.borrowed;
    if (borrowed === this.wish > 0) {
      if (!lease.offered) this.fulfilled(borrowed ? "borrowed" : "returned", { until: lease.exp });
    } else if (start && this.repeated) { // the answer is to an earlier start, without the wish
      Object.assign(this, { replaces: true, callAt: now });
    } else {
      this.fulfilled("not-borrowed");
    }
  }

  fulfilled(what, more) {
    this.wish = null;
    this.tell(what, more);
  }

  /** Whether a refusal counts now: a running program hears it twice first, and a refused trade leaves it its seat. */
  counts(code) {
    const trade = this.open === "asked" && this.trading;
    return !this.running || (!trade && this.heard === code);
  }

  /** A heartbeat was refused, but a newer license file has come: a start with that replaces the session. */
  renew(now) {
    Object.assign(this, { replaces: true, callAt: now, failures: 0, heard: null });
  }

  refused({ refused: code, retryAfter, position = null, waiting = 0 }, now) {
    const start = this.open === "asked";
    const again = this.heard === code;
    const trade = start && this.trading;
    const counts = this.counts(code);
    if (start && !this.repeated) { // it has ended nothing
      Object.assign(this, { open: this.replaces ? "seat" : "nothing", unanswered: null });
    }
    const waited = this.refusal === "no-seat-available"; // else a grant said who waits
    const shown = waited ? { position: this.position, waiting: this.waiting } : { position: null, waiting: 0 };
    Object.assign(this, { failures: 0, position, waiting });
    if (!counts) {
      if (trade && (again || !this.repeated)) this.keepSeat(code);
      Object.assign(this, { heard: code, callAt: soon(now) });
      return;
    }
    if (code === "seat-recalled") {
      this.leaveId(start);
      this.givenUp = now;
    }
    const status = ["starting", "refused"].includes(this.status) ? "refused" : "lost";
    const asksOn = code === "no-seat-available" && (status === "lost" || this.waits);
    this.callAt = asksOn ? now + retryAfter * between(1, position === null ? 1.5 : 1.1) : Infinity;
    Object.assign(this, { heard: null, refusal: code });
    this.stop(status, code);
    if (asksOn && (position !== shown.position || waiting !== shown.waiting)) this.tell("waiting", { position, waiting });
  }

  /** The end of a seat that is given back has an answer, or none. Under a hold, its lease is forgotten. */
  endAnswered({ ended, retryAfter }, now) {
    this.endSent = false;
    const back = this.status === "given-back"; // otherwise the program is active again
    if (ended) {
      Object.assign(this, { open: "nothing", replaces: false, failures: 0 });
      if (this.license.hold) this.last = null;
      this.notBefore = 0;
      if (back) this.callAt = Infinity;
      return;
    }
    this.notBefore = now + (retryAfter ?? 0);
    if (back) this.failed(retryAfter, now);
    else if (retryAfter) this.callAt = Math.max(this.callAt, this.notBefore);
  }

  gone(now) {
    if (this.open === "seat") {
      Object.assign(this, { replaces: true, givenUp: now, callAt: now, failures: 0, heard: null });
    } else if (this.repeated && this.heard !== "gone") { // perhaps the request was damaged
      this.failed(null, now);
      this.heard = "gone";
    } else {
      const trade = this.trading;
      this.leaveId(true);
      if (trade) this.keepSeat("no-answer");
      this.heard = null;
      this.failed(null, now);
    }
  }

  /** The lease is not accepted, but its session may be active: start it again, or repeat the start that followed it. */
  unaccepted(now) {
    if (this.wish !== null) this.fulfilled("not-borrowed");
    this.replaces = this.unanswered !== null;
    this.id = this.unanswered ??= this.last.lease.sub;
    Object.assign(this, { open: "asked", callAt: now, failures: 0, heard: null });
    this.notAccepted += 1;
  }

  noAnswer({ unsent, retryAfter }, now) {
    if (this.open === "asked" && unsent && !this.repeated) { // it was no start
      Object.assign(this, { open: this.replaces ? "seat" : "nothing", unanswered: null });
    } else if (this.open === "asked") {
      this.givenUp = this.replaces ? this.givenUp ?? this.sentAt : null;
    }
    this.failed(retryAfter, now);
  }

  failed(retryAfter, now) {
    this.failures += 1;
    this.callAt = now + Math.max(retryAfter ?? 0, Math.min(2 ** (this.failures - 1), BACKOFF_LIMIT) * between(0.5, 1));
    if (this.status === "starting" && this.failures >= 2) this.unansweredStart(now);
  }

  // Parts of these

  /** Whether a running program asked to borrow or to return: it still holds its seat if that is refused. */
  get trading() {
    return this.running && this.replaces && this.wish !== null;
  }

  keepSeat(code) {
    Object.assign(this, { open: "seat", replaces: false });
    this.fulfilled("not-borrowed", { code });
  }

  /** The session's id is not used again. What `last` knows of it, or of the one before, is replaced. */
  leaveId(start) {
    this.replaces = !start || this.replaces || this.id === this.last?.lease.sub;
    Object.assign(this, { open: this.replaces ? "seat" : "nothing", id: randomUUID() });
    Object.assign(this, { unanswered: null, position: null });
  }

  /** Whether nobody works on a seat that somebody waits for, and nothing forbids to give it back. */
  givesBack(now) {
    const justNow = this.gaveBackAt !== null && now >= this.gaveBackAt && now < this.gaveBackAt + GIVE_BACK_SECONDS;
    const wanted = this.idle && this.waiting > 0 && this.status === "granted" && !justNow;
    const answered = this.failures === 0 && this.heard === null && this.open === "seat";
    const trades = this.replaces || this.wish !== null;
    const ordinary = this.last !== null && !this.last.lease.borrowed && !this.last.lease.offered;
    return wanted && answered && !trades && ordinary && this.license.kind === "floating" && !this.unrecorded;
  }

  /** The program stops, and then its session is ended. */
  giveBack(now) {
    Object.assign(this, { givenBack: true, gaveBackAt: now, notBefore: 0, callAt: now, failures: 0 });
    this.stop("given-back", "given-back");
  }

  grant() {
    const first = this.givenBack ? "restored" : "granted";
    const news = { starting: first, refused: first, grace: "restored", lost: "restored" }[this.status];
    Object.assign(this, { status: "granted", givenBack: false, code: null });
    if (news) this.tell(news, { session: this.last.lease.sub, until: this.last.lease.exp });
  }

  stop(status, code) {
    const isNews = status !== this.status || code !== this.code;
    Object.assign(this, { status, code });
    if (isNews) this.tell(status, { code });
  }

  unansweredStart(now) {
    if (this.refusal || !this.last || this.givenBack) this.stop("refused", this.refusal ?? "no-answer");
    else if (now >= this.graceEnd) this.stop("refused", "grace-over");
    else this.judge(now, "grace");
  }

  /** Checks the license, the lease and the grace of a running program. */
  judge(now, status = this.status) {
    const { exp } = this.last.lease;
    if (now >= this.licenseEnd) return this.stop("lost", "license-expired");
    const left = this.graceEnd - now;
    if (this.unrecorded || (status === "granted" && now < exp && left > 0)) return;
    if (left <= 0) return this.stop("lost", "grace-over");
    const reminders = REMINDERS.filter((limit) => left <= limit).length;
    if (this.status !== "grace" || reminders > this.reminded) this.tell("grace", { left: Math.floor(left) });
    Object.assign(this, { status: "grace", reminded: reminders });
  }
}
