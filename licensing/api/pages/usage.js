// Draws a usage report: the one embedded in the page, or the one that the report token in the link opens.
// The token comes in the URL's fragment, which browsers never send. It is kept only while the page is open.

const byId = (id) => document.getElementById(id);
const slot = (within, name) => within.querySelector(`[data-slot="${name}"]`);

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const DAY = new Intl.DateTimeFormat("en-GB", {
  weekday: "short",
  day: "numeric",
  month: "short",
  year: "numeric",
  timeZone: "UTC",
});
const SHORT_DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const MONTH_NAME = new Intl.DateTimeFormat("en-GB", { month: "short", timeZone: "UTC" });
const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const KINDS = {
  floating: "floating",
  "named-user": "for named users",
  "node-locked": "for certain computers",
};
const SHARING = {
  "user-host": "shared by a user’s sessions on one computer",
  user: "shared by a user’s sessions",
  host: "shared by a computer’s sessions",
};
const UNKNOWN = "–";

const hours = (seconds) => (seconds < 36000 ? TENTHS : NUMBER).format(seconds / 3600);
const count = (number, noun) => `${NUMBER.format(number)} ${noun}${number === 1 ? "" : "s"}`;
const total = (days, column) => days.reduce((sum, day) => sum + (day[column] ?? 0), 0);
const isSmall = (day) => day.sessions === null;
const fewPeople = (report) => `fewer than ${report.small_group} people`;
const spoken = (text) => element("span", { class: "hidden" }, text);
const orUnknown = (value, format = NUMBER.format) => (value === null ? UNKNOWN : format(value));

function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svgElement(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- the report ----

function show(report) {
  const days = [report.from, report.to].map((day) => DAY.format(new Date(day)));
  announce(`Figures from ${days.join(" to ")} are shown.`);
  document.title = `License usage – ${report.organization.name}`;
  byId("organization").textContent = report.organization.name;
  byId("period").textContent = days.join(" to ");
  const time = new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    timeZone: report.time_zone,
  });
  const licenses = report.licenses.map((license, number) => ({
    ...license,
    anchor: `license-${number + 1}`,
  }));
  byId("licenses").replaceChildren(...licenses.map((license) => licenseSection(license, report, time)));
  byId("overview").hidden = licenses.length < 2;
  byId("overview").firstElementChild.replaceChildren(...licenses.map(overviewItem));
  if (!licenses.length)
    notify("No licenses yet", "A license is shown here from the day after its first use.");
  showPeople(report.months);
  const notes = byId("notes");
  slot(notes, "zone").textContent = report.time_zone;
  slot(notes, "small-group").textContent = report.small_group;
  slot(notes, "generated").textContent =
    new Intl.DateTimeFormat("en-GB", {
      dateStyle: "medium",
      timeStyle: "short",
      timeZone: report.time_zone,
    }).format(new Date(report.generated_at)) + `, ${report.time_zone}`;
  notes.hidden = false;
}

function overviewItem(license) {
  const link = element(
    "a",
    { href: `#${license.anchor}` },
    element("span", {}, license.product),
    element("strong", {}, license.verdict.headline),
  );
  return element("li", { "data-state": license.verdict.state }, link);
}

function showPeople(months) {
  const most = Math.max(1, ...months.map((month) => month.users));
  byId("people").hidden = !months.length;
  byId("people")
    .querySelector("tbody")
    .replaceChildren(
      ...months.map(({ month, users }) => {
        const meter = element("span", { class: "meter" });
        meter.style.width = `${(12 * users) / most}rem`;
        return element(
          "tr",
          {},
          rowHeader(MONTH.format(new Date(month))),
          element("td", {}, meter, NUMBER.format(users)),
        );
      }),
    );
}

function licenseSection(license, report, time) {
  const section = byId("license").content.cloneNode(true).firstElementChild;
  const floating = license.kind === "floating" && license.seats > 0;
  section.id = license.anchor;
  section.setAttribute("aria-labelledby", `${license.anchor}-title`);
  slot(section, "product").id = `${license.anchor}-title`;
  slot(section, "product").textContent = license.product;
  slot(section, "terms").append(element("code", {}, license.id), ` · ${terms(license, floating)}`);
  section.querySelector(".verdict").dataset.state = license.verdict.state;
  slot(section, "headline").textContent = `${license.verdict.headline}.`;
  slot(section, "sentence").textContent = license.verdict.sentence;
  if (["idle", "unrecorded", "not-over"].includes(license.verdict.state)) {
    for (const part of section.querySelectorAll(".tiles, .peaks, .pair")) part.remove();
    return section;
  }
  slot(section, "tiles").append(...tiles(license, report, floating));
  slot(section, "days").append(...license.days.map((day) => dayRow(day, report, time)).reverse());
  slot(section, "months").append(...license.months.map(monthRow));
  slot(section, "months-note").hidden = license.months.every((month) => month.sessions !== null);
  section.querySelector(".months").hidden = !license.months.length;
  showPeaks(section, license, report, floating);
  showBusyHours(section, license, report, floating);
  return section;
}

function terms(license, floating) {
  const parts = [KINDS[license.kind] ?? license.kind];
  if (floating) {
    parts.push(
      count(license.seats, "seat") + (license.overdraft ? ` and ${license.overdraft} in overdraft` : ""),
    );
    if (license.sharing in SHARING) parts.push(SHARING[license.sharing]);
  }
  return parts.join(" · ");
}

function tiles(license, report, floating) {
  const { days } = license;
  const peak = Math.max(0, ...days.map((day) => day.peak));
  const overdraft = total(days, "overdraft_seconds");
  const known = days.filter((day) => !isSmall(day));
  const left = days.length - known.length;
  const remarks = [
    ...(overdraft ? [`${hours(overdraft)} in overdraft`] : []),
    ...(left ? [`without ${count(left, "day")} of ${fewPeople(report)}`] : []),
  ];
  const used = known.some((day) => day.sessions) || !left;
  const ranOn = total(days, "grace_seconds");
  const shown = [
    tile("Most at once", NUMBER.format(peak), floating ? besideSeats(license, peak) : ""),
    tile("Hours used", used ? hours(total(days, "seat_seconds")) : UNKNOWN, remarks.join(", ")),
  ];
  if (floating) {
    shown.push(tile("Starts refused", NUMBER.format(total(days, "denials"))));
    shown.push(tile("Served after a wait", NUMBER.format(total(days, "waits"))));
  } else {
    const users = Math.max(0, ...known.map((day) => day.users));
    shown.push(tile("Most users in a day", users || !left ? NUMBER.format(users) : fewPeople(report)));
  }
  if (ranOn) {
    const most = Math.max(...days.map((day) => (day.grace_seconds && day.ran_peak) || 0));
    const beyond = floating ? "Hours beyond the seats" : "Hours out of reach";
    shown.push(tile(beyond, hours(ranOn), most ? `at most ${NUMBER.format(most)} ran at once` : ""));
  }
  return shown;
}

const seatsChanged = (license) => license.days.some((day) => day.seats !== license.seats);

function seatsOf(license) {
  const every = license.days.map((day) => day.seats);
  const [least, most] = [Math.min(...every), Math.max(...every)];
  return least < most ? `${NUMBER.format(least)} to ${count(most, "seat")}` : count(most, "seat");
}

// A peak in overdraft is not a part of the seats.
function besideSeats(license, peak) {
  const inOverdraft = license.days.every((day) => peak > day.seats);
  return `${inOverdraft ? "with" : "of"} ${seatsOf(license)}`;
}

function tile(term, value, remark = "") {
  return element(
    "div",
    {},
    element("dt", {}, term),
    element("dd", {}, value, " ", element("small", {}, remark)),
  );
}

const rowHeader = (text) => element("th", { scope: "row" }, text);
const cells = (texts) => texts.map((text) => element("td", {}, text));

function dayRow(day, report, time) {
  return element(
    "tr",
    {},
    rowHeader(DAY.format(new Date(day.day))),
    ...cells([
      NUMBER.format(day.peak),
      orUnknown(day.peak_at, (at) => time.format(new Date(at))),
      orUnknown(day.users),
      orUnknown(day.sessions),
      orUnknown(day.seat_seconds, hours),
      NUMBER.format(day.denials),
      NUMBER.format(day.waits),
    ]).map((cell, column) => (isSmall(day) && column === 2 ? smallCell(report) : cell)),
  );
}

function smallCell(report) {
  const mark = element("span", { "aria-hidden": "true" }, `under ${report.small_group}`);
  return element("td", { title: capital(fewPeople(report)) }, mark, spoken(fewPeople(report)));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function monthRow(month) {
  return element(
    "tr",
    {},
    rowHeader(MONTH.format(new Date(month.month))),
    ...cells([
      NUMBER.format(month.users),
      orUnknown(month.sessions),
      orUnknown(month.seat_seconds, hours),
      orUnknown(month.peak),
      orUnknown(month.denials),
    ]),
  );
}

// ---- peaks against the seats ----

const HEIGHT = 212;
const MARGIN = { top: 36, right: 4, bottom: 24, left: 30 };
const NARROWEST_BAR = 2.2;
const WIDEST_BAR = 40;
const LABEL_WIDTH = 52;

function showPeaks(section, license, report, floating) {
  const plot = slot(section, "plot");
  const measure = floating ? "Most seats taken at once" : "Most sessions at once";
  const draw = (width) => {
    const perWeek = license.days.length * NARROWEST_BAR > width - MARGIN.left - MARGIN.right;
    slot(section, "peaks-title").textContent = `${measure}, by ${perWeek ? "week" : "day"}`;
    slot(section, "peaks-legend").replaceChildren(
      ...peaksLegend(license, floating, perWeek ? "all taken at times" : "all taken"),
    );
    const bars = perWeek ? weeks(license.days) : license.days.map((day) => dayBar(day, report));
    plot.replaceChildren(peaksChart(width, bars, floating, measure, license));
  };
  new ResizeObserver(([entry]) => draw(Math.max(240, Math.round(entry.contentRect.width)))).observe(plot);
}

function peaksLegend({ days }, floating, allTaken) {
  const entries = [];
  const add = (className, text) =>
    entries.push(element("span", {}, element("i", { class: className, "aria-hidden": "true" }), text));
  if (!floating) return entries;
  add("free", "seats left");
  if (days.some((day) => day.peak >= day.seats)) add("full", allTaken);
  if (days.some((day) => day.peak > day.seats)) add("beyond", "overdraft");
  if (days.some((day) => day.denials)) add("refused", "starts refused");
  return entries;
}

const dayBar = (day, report) => ({
  ...day,
  name: DAY.format(new Date(day.day)),
  full: day.peak >= day.seats,
  remark: isSmall(day) ? `, ${fewPeople(report)}` : "",
});

function weeks(days) {
  const monday = (day) =>
    new Date(Date.parse(day.day) - ((new Date(day.day).getUTCDay() + 6) % 7) * 86400000)
      .toISOString()
      .slice(0, 10);
  return [...group(days, monday)].map(([week, of]) => ({
    day: week,
    week: true,
    name: `Week of ${DAY.format(new Date(week))}`,
    peak: Math.max(...of.map((day) => day.peak)),
    seats: Math.max(...of.map((day) => day.seats)),
    full: of.some((day) => day.peak >= day.seats),
    denials: total(of, "denials"),
    remark: "",
  }));
}

function group(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

function peaksChart(width, bars, floating, measure, license) {
  const top = Math.max(1, ...bars.map((bar) => Math.max(bar.peak, floating ? bar.seats : 0)));
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const y = (value) => MARGIN.top + inner.height * (1 - value / top);
  const step = inner.width / bars.length;
  const x = (index) => MARGIN.left + index * step;
  const svg = svgElement("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    role: "img",
    "aria-label": `${measure}. ${license.verdict.sentence} The figures are in the table below.`,
  });
  for (const value of ticks(top)) {
    svg.append(
      svgElement("line", {
        class: "grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: y(value),
        y2: y(value),
      }),
      svgElement("text", { x: MARGIN.left - 8, y: y(value) + 4, "text-anchor": "end" }, NUMBER.format(value)),
    );
  }
  svg.append(...dateLabels(bars, x, step));
  bars.forEach((bar, index) => svg.append(peakBar(bar, x(index), step, y, floating)));
  if (floating) svg.append(seatsLine(bars, x, y), ...seatsLabels(bars, x, y));
  return svg;
}

// A line at the seats of each day, which steps where seats were bought or given back.
function seatsLine(bars, x, y) {
  const steps = bars.map(({ seats }, index) => `V${y(seats)}H${x(index + 1)}`);
  return svgElement("path", { class: "seats", d: `M${x(0)} ${y(bars[0].seats)}${steps.join("")}` });
}

function seatsLabels(bars, x, y) {
  const labels = [];
  let free = Infinity;
  // From the last to the first, since the last says how many there are now.
  for (let end = bars.length; end > 0; ) {
    const { seats } = bars[end - 1];
    const begin = bars.slice(0, end).findLastIndex((bar) => bar.seats !== seats) + 1;
    if (x(end) <= free) {
      labels.push(
        svgElement(
          "text",
          { class: "seats-label", x: x(end), y: y(seats) - 6, "text-anchor": "end" },
          count(seats, "seat"),
        ),
      );
      free = x(end) - LABEL_WIDTH - 8;
    }
    end = begin;
  }
  return labels.filter((label, index) => index === 0 || label.getAttribute("x") - LABEL_WIDTH >= MARGIN.left);
}

function peakBar(bar, left, step, y, floating) {
  const gap = Math.max(step * 0.15, step - WIDEST_BAR);
  const rect = (from, to, className) =>
    svgElement("rect", {
      class: className,
      x: left + gap / 2,
      width: step - gap,
      y: y(to),
      height: y(from) - y(to),
    });
  const withinSeats = floating ? Math.min(bar.peak, bar.seats) : bar.peak;
  const refused = bar.denials ? `, ${count(bar.denials, "start")} refused` : "";
  const drawing = svgElement(
    "g",
    {},
    svgElement("title", {}, `${bar.name}: ${bar.peak} at once${refused}${bar.remark}`),
    svgElement("rect", { class: "hit", x: left, width: step, y: 0, height: y(0) }),
  );
  if (withinSeats) drawing.append(rect(0, withinSeats, floating && bar.full ? "bar full" : "bar"));
  if (bar.peak > withinSeats) drawing.append(rect(withinSeats, bar.peak, "bar beyond"));
  if (bar.denials) {
    const middle = left + step / 2;
    const half = Math.min(5, Math.max(3.5, step * 0.4));
    drawing.append(
      svgElement("path", { class: "refused", d: `M${middle - half} 2h${2 * half}l${-half} ${1.6 * half}z` }),
    );
  }
  return drawing;
}

function ticks(top) {
  const roughStep = top / 4;
  const size = 10 ** Math.floor(Math.log10(Math.max(1, roughStep)));
  const step = [1, 2, 5, 10].map((times) => times * size).find((candidate) => candidate >= roughStep);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, number) => number * step);
}

function dateLabels(bars, x, step) {
  const byMonth = bars.length > 45 || bars[0]?.week;
  const everyDay = bars.length <= 14;
  const monthOf = (bar) => bar?.day.slice(0, 7);
  const hasLabel = (bar, previous) =>
    everyDay || (byMonth ? monthOf(bar) !== monthOf(previous) : new Date(bar.day).getUTCDay() === 1);
  const labels = [];
  let nextFree = -Infinity;
  // The rest of a first month may be too short to be labelled beside the second.
  const second = bars.findIndex((bar, index) => index > 0 && hasLabel(bar, bars[index - 1]));
  bars.forEach((bar, index) => {
    if (!hasLabel(bar, bars[index - 1]) || x(index) < nextFree) return;
    if (byMonth && index === 0 && second > 0 && second * step < LABEL_WIDTH) return;
    const text = (byMonth ? MONTH_NAME : SHORT_DAY).format(new Date(bar.day));
    const place = everyDay ? { x: x(index) + step / 2, "text-anchor": "middle" } : { x: x(index) + 1 };
    labels.push(svgElement("text", { ...place, y: HEIGHT - 6 }, text));
    nextFree = x(index) + LABEL_WIDTH;
  });
  return labels;
}

// ---- busy hours ----

function showBusyHours(section, license, report, floating) {
  const legend = slot(section, "busy-legend");
  if (!license.busy) {
    legend.textContent = `Not shown: ${fewPeople(report)} in every hour.`;
    slot(section, "heat").remove();
    slot(section, "hours").remove();
    return;
  }
  const seen = license.busy.flat().filter((hour) => hour !== null);
  const bySeats = floating && !seatsChanged(license);
  const most = Math.max(1, ...seen.map((hour) => hour.most));
  const full = floating ? Math.max(1, ...license.days.map((day) => day.seats)) : most;
  const entry = (className, text) =>
    element("span", {}, element("i", { class: className, "aria-hidden": "true" }), text);
  legend.append(
    `Average by hour, ${report.time_zone}`,
    entry("scale", bySeats ? "none to all taken" : `none to ${full}`),
    entry("few", fewPeople(report)),
  );
  if (bySeats && most >= full) legend.append(entry("ever", "all taken at times"));
  drawHeat(slot(section, "heat"), license.busy, report, { full, floating, bySeats });
  fillHours(slot(section, "hours"), license.busy, report, floating);
}

// Short on the screen, whole for screen readers.
const weekday = (name) => [
  element("span", { "aria-hidden": "true" }, name.slice(0, 3)),
  element("span", { class: "hidden" }, name),
];
const mostAtOnce = (floating) => `the most ${floating ? "seats taken" : "sessions"} at once`;

function fillHours(within, busy, report, floating) {
  const part = (name) => within.querySelector(name);
  const cell = (hour) =>
    hour
      ? element("td", {}, hour.most ? `${TENTHS.format(hour.mean)} (${hour.most})` : "0")
      : element(
          "td",
          { title: capital(fewPeople(report)) },
          element("span", { "aria-hidden": "true" }, UNKNOWN),
          spoken(fewPeople(report)),
        );
  part("p").textContent =
    `Average of ${mostAtOnce(floating)} in each hour, and in brackets the highest. ` +
    `An hour with ${fewPeople(report)} counts as 0; a dash: ${fewPeople(report)} every time.`;
  part("thead").append(
    element(
      "tr",
      {},
      element("th", { scope: "col" }, "Hour"),
      ...WEEKDAYS.map((name) => element("th", { scope: "col" }, ...weekday(name))),
    ),
  );
  part("tbody").append(
    ...busy[0].map((_, hour) =>
      element("tr", {}, rowHeader(`${hour}–${hour + 1}`), ...busy.map((day) => cell(day[hour]))),
    ),
  );
}

function drawHeat(table, busy, report, scale) {
  const allHours = Array.from({ length: 24 }, (_, hour) => hour);
  const hourHeader = (hour) =>
    element("th", { scope: "col" }, hour % 3 ? element("span", { class: "hidden" }, hour) : String(hour));
  const corner = element("td", {});
  table.append(
    element(
      "caption",
      { class: "hidden" },
      `Average of ${mostAtOnce(scale.floating)}, by weekday and hour`,
    ),
    element("colgroup", {}, element("col"), element("col", { span: 24 })),
    element("thead", {}, element("tr", {}, corner, ...allHours.map(hourHeader))),
    element(
      "tbody",
      {},
      ...busy.map((day, number) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, ...weekday(WEEKDAYS[number])),
          ...day.map((hour, at) => heatCell(hour, report, scale, `${WEEKDAYS[number]} ${at}–${at + 1}`)),
        ),
      ),
    ),
  );
}

function heatCell(hour, report, { full, bySeats }, when) {
  if (!hour) {
    const few = fewPeople(report);
    return element("td", { class: "few", title: `${when}: ${few}` }, spoken(few));
  }
  const { mean, most } = hour;
  const everFull = bySeats && most >= full;
  const level = Math.min(5, Math.ceil((5 * mean) / full));
  return element(
    "td",
    {
      "data-level": level,
      class: everFull ? "ever" : "",
      title: `${when}: ${TENTHS.format(mean)} on average, ${most} at most`,
    },
    spoken(TENTHS.format(mean) + (everFull ? ", all taken at times" : "")),
  );
}

// ---- the live page ----

const TOKEN = /^#([\w-]+\.[\w-]+\.[\w-]+)$/;
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

function notify(title, text, retry) {
  const parts = [element("h2", {}, title), element("p", {}, text)];
  if (retry) {
    const button = element("button", { type: "button" }, "Try again");
    button.addEventListener("click", retry);
    parts.push(button);
  }
  byId("notice").className = "";
  byId("notice").replaceChildren(...parts);
}

class LinkExpired extends Error {}
class BadDates extends Error {}

async function request(format) {
  const query = new URLSearchParams({ ...Object.fromEntries(new FormData(byId("range"))), format });
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  const response = await fetch(`usage/data?${query}`, {
    headers: { Authorization: `Bearer ${token}` },
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  });
  if (response.status === 401) throw new LinkExpired();
  if (response.status === 400) throw new BadDates((await response.json()).detail);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

async function attempt(work) {
  const buttons = [...byId("range").querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (problem) {
    if (problem instanceof LinkExpired) {
      clear();
      notify(
        "This link no longer works",
        "Links to this page expire. Ask whoever sent you this one for a new link, and open that.",
      );
    } else if (problem instanceof BadDates) {
      notify("These dates do not work", problem.message);
    } else {
      notify(
        "The figures could not be read",
        "The service did not answer as it should. Your licenses go on working. Try again in a minute.",
        () => attempt(work),
      );
    }
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

function clear() {
  token = null;
  for (const id of ["range", "overview", "people", "notes"]) byId(id).hidden = true;
  byId("licenses").replaceChildren();
  byId("period").textContent = "";
}

async function load() {
  const report = await (await request("json")).json();
  const { elements } = byId("range");
  elements.from.value = report.from;
  elements.to.value = report.to;
  byId("range").hidden = false;
  show(report);
}

async function download() {
  const { elements } = byId("range");
  const url = URL.createObjectURL(await (await request("csv")).blob());
  element("a", { href: url, download: `usage-${elements.from.value}-to-${elements.to.value}.csv` }).click();
  URL.revokeObjectURL(url);
}

function start() {
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
  addEventListener("hashchange", () => takeToken() && attempt(load));
  if (takeToken()) {
    byId("notice").replaceChildren(element("p", {}, "Reading the figures…"));
    attempt(load);
  } else {
    notify(
      "Open this page with its link",
      "It needs the whole link that you were sent. The key in the link is kept only while the page is open: " +
        "after closing or reloading it, open the link again.",
    );
  }
}

start();
