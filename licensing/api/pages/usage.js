// The live page: the token of the link, what the service is asked, and when what stands now is renewed.
// The token comes in the URL's fragment, which browsers never send. It is kept only while the page is open.

// A signature of Ed25519 has 64 bytes, so 86 characters. A link that a mail program cut has fewer.
const TOKEN = /^#([\w-]+\.[\w-]+\.[\w-]{86})$/;
const ANCHOR = /^(#(top|license-\d+))?$/;
let token = null;

function takeToken() {
  const found = TOKEN.exec(location.hash);
  if (!found) return false;
  token = found[1];
  history.replaceState(null, "", location.pathname + location.search);
  return true;
}

// For screen readers alone: the page shows it anyway.
function announce(text) {
  byId("notice").className = "hidden";
  byId("notice").replaceChildren(element("p", {}, text));
}

function notify(title, paragraphs, retry) {
  const parts = [element("h2", {}, title)];
  for (const text of paragraphs) parts.push(text instanceof Node ? text : element("p", {}, text));
  if (retry) {
    const button = element("button", { type: "button" }, t("again"));
    button.addEventListener("click", retry);
    parts.push(button);
  }
  byId("notice").className = "";
  byId("notice").replaceChildren(...parts);
}

class LinkExpired extends Error {}
class LinkReplaced extends Error {}
class BadDates extends Error {}

async function request(path, signal) {
  const asker = token;
  const response = await fetch(path, {
    headers: { Authorization: `Bearer ${asker}` },
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal,
  }).catch((problem) => problem);
  // What comes late for a link is nothing of the link that was opened meanwhile.
  if (asker !== token) throw new LinkReplaced();
  if (response instanceof Error) throw response;
  if (response.status === 401) throw new LinkExpired();
  if (response.status === 400) throw new BadDates((await response.json()).detail);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

function requestTotals(format) {
  const query = new URLSearchParams({ ...Object.fromEntries(new FormData(byId("range"))), format });
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  return request(`usage/data?${query}`);
}

async function attempt(work) {
  const buttons = [...byId("range").querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (problem) {
    if (problem instanceof LinkReplaced) return;
    if (problem instanceof LinkExpired) {
      clear();
      notify(t("expired-title"), [t("expired-text")]);
    } else if (problem instanceof BadDates) {
      // The service says it in English.
      notify(t("dates-title"), [t("dates-text"), element("p", { lang: "en" }, problem.message)]);
    } else {
      notify(t("failed-title"), [t("failed-text")], () => attempt(work));
    }
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

function clear() {
  token = null;
  renewal.stop();
  delayed.forget();
  charts = [];
  for (const id of ["range", "overview", "people", "notes", "link-until"]) byId(id).hidden = true;
  byId("licenses").replaceChildren();
  byId("period").textContent = "";
}

async function load() {
  const report = await (await requestTotals("json")).json();
  const { elements } = byId("range");
  elements.from.value = report.from;
  elements.to.value = report.to;
  byId("range").hidden = false;
  renewal.begin(report, show(report));
}

async function download() {
  const { elements } = byId("range");
  const url = URL.createObjectURL(await (await requestTotals("csv")).blob());
  element("a", { href: url, download: `usage-${elements.from.value}-to-${elements.to.value}.csv` }).click();
  URL.revokeObjectURL(url);
}

// ---- what stands now ----

const RENEWAL_MILLISECONDS = 30_000;

// Renews what stands now while somebody looks. It never takes a number away: what could not be renewed is stale.
const renewal = {
  report: null,
  licenses: [],
  askedAt: 0,
  timer: 0,
  asking: false,

  begin(report, licenses) {
    Object.assign(this, { report, licenses: licenses.filter(({ now }) => now), askedAt: Date.now() });
    this.schedule();
  },

  stop() {
    clearTimeout(this.timer);
    this.licenses = [];
  },

  // A hidden page asks nothing. One that is looked at again asks at once if what it shows is too old.
  schedule() {
    clearTimeout(this.timer);
    if (!this.licenses.length || document.hidden || this.asking) return;
    // A clock that was set back makes nobody wait longer.
    const age = Math.max(0, Date.now() - this.askedAt);
    this.timer = setTimeout(() => this.renew(), Math.max(0, RENEWAL_MILLISECONDS - age));
  },

  async renew() {
    const { licenses } = this;
    this.asking = true;
    this.askedAt = Date.now();
    try {
      const reply = await (await request("usage/now", AbortSignal.timeout(RENEWAL_MILLISECONDS))).json();
      // Meanwhile other days may have been asked for, or the link have ended.
      if (licenses === this.licenses) this.draw(new Map(reply.licenses.map(({ id, now }) => [id, now])));
    } catch (problem) {
      if (licenses === this.licenses && !(problem instanceof LinkReplaced)) this.failed(problem);
    } finally {
      this.asking = false;
      this.schedule();
    }
  },

  draw(found) {
    for (const license of this.licenses) {
      const now = found.get(license.id);
      if (now) license.now = now;
      drawStatus(byId(license.anchor), license, this.report, !now);
    }
  },

  failed(problem) {
    this.draw(new Map());
    if (!(problem instanceof LinkExpired)) return;
    this.stop();
    notify(t("expired-title"), [t("expired-now-text")]);
  },
};

function start() {
  document.documentElement.lang = LANGUAGE;
  document.title = t("title");
  putTexts(document);
  putTexts(byId("license").content);
  const embedded = byId("data");
  if (embedded) {
    show(JSON.parse(embedded.textContent));
    return;
  }
  byId("range").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(load);
  });
  byId("download").addEventListener("click", () => attempt(download));
  addEventListener("hashchange", () => {
    if (takeToken()) attempt(load);
    else if (!ANCHOR.test(location.hash)) notify(t("cut-title"), [t("cut-text")]);
  });
  document.addEventListener("visibilitychange", () => renewal.schedule());
  if (takeToken()) {
    byId("notice").replaceChildren(element("p", {}, t("reading")));
    attempt(load);
  } else if (ANCHOR.test(location.hash)) {
    notify(t("lost-title"), [t("lost-text")]);
  } else {
    notify(t("cut-title"), [t("cut-text")]);
  }
}

start();
