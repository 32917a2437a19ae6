// The page's language, its texts from the catalogue, numbers and days in that language, and elements.

const byId = (id) => document.getElementById(id);
const slot = (within, name) => within.querySelector(`[data-slot="${name}"]`);

// The one of the reader's languages that comes first and has texts here.
const LOCALES = { en: "en-GB", de: "de", fi: "fi" };
const LANGUAGE =
  navigator.languages
    .map((tag) => tag.toLowerCase().split("-")[0])
    .find((language) => Object.hasOwn(LOCALES, language)) ?? "en";
const LOCALE = LOCALES[LANGUAGE];
const TEXTS = JSON.parse(byId("texts").textContent);
const PLURAL = new Intl.PluralRules(LOCALE);

const NUMBER = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });
const PERCENT = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 0 });
const FINE_PERCENT = new Intl.NumberFormat(LOCALE, { style: "percent", maximumFractionDigits: 1 });
const utc = (options) => new Intl.DateTimeFormat(LOCALE, { ...options, timeZone: "UTC" });
const DAY = utc({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
const DATE = utc({ day: "numeric", month: "short", year: "numeric" });
const SHORT_DAY = utc({ day: "numeric", month: "short" });
const MONTH = utc({ month: "short", year: "numeric" });
const MONTH_NAME = utc({ month: "short" });
const UTC_TIME = utc({ dateStyle: "medium", timeStyle: "short" });
const UNKNOWN = "–";

// 5 January 2026 is a Monday.
const weekdays = (style) =>
  Array.from({ length: 7 }, (_, day) => utc({ weekday: style }).format(Date.UTC(2026, 0, 5 + day)));
const WEEKDAYS = weekdays("long");
const SHORT_WEEKDAYS = weekdays("short");

// A text of the catalogue. `n` chooses between singular and plural. Numbers are written as the language does.
function t(key, values = {}) {
  const found = TEXTS[key][LANGUAGE];
  const text = typeof found === "string" ? found : (found[PLURAL.select(values.n)] ?? found.other);
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? NUMBER.format(values[name]) : values[name],
  );
}

// A sentence that the report has in each language.
const translated = (part) => part.translations?.[LANGUAGE] ?? part;

function putTexts(within) {
  for (const node of within.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of within.querySelectorAll("[data-label]")) node.ariaLabel = t(node.dataset.label);
}

const hours = (seconds) => (seconds < 36000 ? TENTHS : NUMBER).format(seconds / 3600);
const date = (day) => DATE.format(new Date(day));
// A day is written in the chart and in the table of each license.
const writtenDays = new Map();
function weekdayAndDate(day) {
  if (!writtenDays.has(day)) writtenDays.set(day, DAY.format(new Date(day)));
  return writtenDays.get(day);
}
const monthOf = (month) => MONTH.format(new Date(month));
const spanOf = (from, to) => (from === to ? from : t("span", { from, to }));
const total = (days, column) => days.reduce((sum, day) => sum + (day[column] ?? 0), 0);
const orUnknown = (value, format = NUMBER.format) => (value === null ? UNKNOWN : format(value));
const capital = (text) => text[0].toLocaleUpperCase(LOCALE) + text.slice(1);
const fewPeople = (report) => t("few-people", { n: report.small_group });

function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svgElement(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  node.append(...children);
  return node;
}

const rowHeader = (text) => element("th", { scope: "row" }, text);
const cells = (texts) => texts.map((text) => element("td", {}, text));
const spoken = (text) => element("span", { class: "hidden" }, text);
const legendEntry = (className, text) =>
  element("span", {}, element("i", { class: className, "aria-hidden": "true" }), text);

// What is not in sight at first is drawn in tasks of its own, so that the page answers meanwhile: `later` what one would
// scroll to, `last` what one would open.
const delayed = {
  later: [],
  last: [],
  timer: 0,

  add(works, work) {
    works.push(work);
    byId("licenses").ariaBusy = "true";
    this.timer ||= setTimeout(() => this.next());
  },

  // Between tasks the browser lays out and paints all that is there, so one task does what fits into its time.
  next() {
    const until = performance.now() + 50;
    do (this.later.shift() ?? this.last.shift())?.();
    while (this.waits() && performance.now() < until);
    this.timer = this.waits() ? setTimeout(() => this.next()) : 0;
    if (!this.timer) byId("licenses").ariaBusy = null;
  },

  waits() {
    return this.later.length + this.last.length > 0;
  },

  finish() {
    while (this.waits()) this.next();
  },

  forget() {
    this.later = [];
    this.last = [];
  },
};
