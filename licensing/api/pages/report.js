// A report on the page: the overview, a section for each license, and the people of the months.

const KIND_TEXTS = {
  floating: "kind-floating",
  "named-user": "kind-named-user",
  "node-locked": "kind-node-locked",
};
const SHARING_TEXTS = {
  "user-host": "sharing-user-host",
  user: "sharing-user",
  host: "sharing-host",
};
const NOTES_TEXTS = [
  "note-totals",
  "note-days",
  "note-seats",
  "note-now",
  "note-ran-on",
  "note-waits",
  "note-over",
  "note-few",
  "note-hours",
  "note-months",
  "note-csv",
  "note-holidays",
];
// A file has neither what stands now nor a CSV.
const LINK_NOTES_TEXTS = ["note-now", "note-csv"];
const WITHOUT_USE = ["idle", "unrecorded", "not-over"];

const isSmall = (day) => day.sessions === null;
const isFloating = (license) => license.kind === "floating" && license.seats > 0;
const seatsChanged = (license) => license.days.some((day) => day.seats !== license.seats);
const endsSoon = (license) => license.ends_in_days != null;

function show(report) {
  const span = { from: weekdayAndDate(report.from), to: weekdayAndDate(report.to) };
  const customer = report.organization.name;
  charts = [];
  delayed.forget();
  announce(t("shown", span));
  document.title = t("title-of", { customer });
  // For the head of each page on paper. A style sheet reads it as a string.
  document.documentElement.style.setProperty("--customer", JSON.stringify(customer.replace(/\s/g, " ")));
  byId("organization").textContent = customer;
  byId("period").textContent = spanOf(span.from, span.to);
  byId("link-until").hidden = !report.link_until;
  if (report.link_until)
    byId("link-until").textContent = t("link-until", timeIn(report.time_zone, report.link_until));
  const licenses = inOrderOfNeed(report.licenses).map((license, number) => ({
    ...license,
    anchor: `license-${number + 1}`,
  }));
  byId("licenses").replaceChildren(...licenses.map((license) => licenseSection(license, report)));
  byId("overview").hidden = licenses.length < 2;
  byId("overview").firstElementChild.replaceChildren(...licenses.map(overviewItem));
  if (!licenses.length) notify(t("none-title"), [t("none-text")]);
  showPeople(report.months);
  showNotes(report);
  return licenses;
}

const hourFormat = (timeZone) =>
  new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", timeZone });

function timeIn(zone, time) {
  const format = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short", timeZone: zone });
  return { time: format.format(new Date(time)), zone };
}

function showNotes(report) {
  const values = { zone: report.time_zone, few: fewPeople(report) };
  const notes = byId("notes");
  const found = NOTES_TEXTS.filter((key) => report.link_until || !LINK_NOTES_TEXTS.includes(key));
  notes.querySelector("ul").replaceChildren(...found.map((key) => element("li", {}, t(key, values))));
  slot(notes, "generated").textContent = t("as-of", timeIn(report.time_zone, report.generated_at));
  notes.hidden = false;
}

// What does not work comes first, then what runs short or ends soon. Among equals the order stays.
function inOrderOfNeed(licenses) {
  const need = (license) => {
    if (license.suspended || license.ended) return 0;
    if (license.verdict.state === "short") return 1;
    if (endsSoon(license)) return 2;
    return license.verdict.state === "tight" ? 3 : 4;
  };
  const named = (license) => licenses.filter(({ product }) => product === license.product).length > 1;
  return licenses.map((license) => ({ ...license, alike: named(license) })).sort((a, b) => need(a) - need(b));
}

function overviewItem(license) {
  const name = license.alike ? [license.product, " ", element("code", {}, license.id)] : [license.product];
  const link = element(
    "a",
    { href: `#${license.anchor}` },
    element("span", {}, ...name),
    element("strong", {}, translated(license.verdict).headline),
    ...warningsOf(license).map(({ short, tone }) => element("span", { "data-tone": tone }, short)),
  );
  return element("li", { "data-state": license.verdict.state }, link);
}

function showPeople(months) {
  const most = Math.max(1, ...months.map((month) => month.users));
  byId("people").hidden = !months.length;
  if (!months.length) return;
  byId("people-title").textContent = t("people-title", monthsSpan(months));
  byId("people")
    .querySelector("tbody")
    .replaceChildren(
      ...months.map(({ month, users }) => {
        const meter = element("span", { class: "meter" });
        meter.style.setProperty("--share", users / most);
        return element("tr", {}, rowHeader(monthOf(month)), element("td", {}, meter, NUMBER.format(users)));
      }),
    );
}

const monthsSpan = (months) => ({ span: spanOf(monthOf(months[0].month), monthOf(months.at(-1).month)) });

// ---- one license ----

function licenseSection(license, report) {
  const section = byId("license").content.cloneNode(true).firstElementChild;
  const floating = isFloating(license);
  section.id = license.anchor;
  slot(section, "product").textContent = license.product;
  slot(section, "terms").append(element("code", {}, license.id), ` · ${terms(license, floating)}`);
  nameParts(section, license);
  drawStatus(section, license, report);
  section.querySelector(".verdict").dataset.state = license.verdict.state;
  const { headline, sentence } = translated(license.verdict);
  slot(section, "headline").textContent = `${headline}.`;
  slot(section, "sentence").textContent = sentence;
  showDaysSpan(slot(section, "span"), license.days);
  if (WITHOUT_USE.includes(license.verdict.state)) {
    for (const part of section.querySelectorAll(".tiles, .peaks, .sizing, .pair")) part.remove();
    return section;
  }
  slot(section, "tiles").append(...tiles(license, report, floating));
  showMonths(section, license);
  showBusyHours(section, license, report, floating);
  if (!license.sizing) section.querySelector(".sizing").remove();
  delayed.add(delayed.later, () => {
    showPeaks(section, license, report, floating);
    if (license.sizing) showSizing(section, license);
  });
  delayed.add(delayed.last, () => showDays(section, license, report));
  return section;
}

// Each region has a name of its own on the page: that of its part, then the license's.
function nameParts(section, license) {
  const name = (node, part) => {
    node.id = `${license.anchor}-${part}`;
    return node.id;
  };
  const product = [name(slot(section, "product"), "title")];
  if (license.alike) product.push(name(section.querySelector("code"), "id"));
  section.setAttribute("aria-labelledby", product.join(" "));
  section.querySelectorAll(".scroll").forEach((region, number) => {
    const title = region.parentElement.querySelector("summary, h3");
    region.setAttribute("aria-labelledby", [name(title, `part-${number + 1}`), ...product].join(" "));
  });
}

function showDaysSpan(title, days) {
  if (!days.length) title.remove();
  else title.textContent = t("these-days", { n: days.length, span: spanOf(date(days[0].day), date(days.at(-1).day)) });
}

function terms(license, floating) {
  const parts = [license.kind in KIND_TEXTS ? t(KIND_TEXTS[license.kind]) : license.kind];
  if (floating) {
    const seats = t("seats", { n: license.seats });
    const { overdraft } = license;
    parts.push(overdraft ? t("seats-and-overdraft", { seats, n: overdraft }) : seats);
    if (license.sharing in SHARING_TEXTS) parts.push(t(SHARING_TEXTS[license.sharing]));
  }
  return parts.join(" · ");
}

function showDays(section, license, report) {
  const time = hourFormat(report.time_zone);
  slot(section, "days").append(...license.days.map((day) => dayRow(day, report, time)).reverse());
}

function showMonths(section, { months }) {
  section.querySelector(".months").hidden = !months.length;
  if (!months.length) return;
  slot(section, "months-title").textContent = t("months-title", monthsSpan(months));
  slot(section, "months").append(...months.map(monthRow));
  slot(section, "months-note").hidden = months.every((month) => month.sessions !== null);
}

function dayRow(day, report, time) {
  return element(
    "tr",
    {},
    rowHeader(weekdayAndDate(day.day)),
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
  const few = fewPeople(report);
  const mark = element("span", { "aria-hidden": "true" }, t("few-people-short", { n: report.small_group }));
  return element("td", { title: capital(few) }, mark, spoken(few));
}

function monthRow(month) {
  return element(
    "tr",
    {},
    rowHeader(monthOf(month.month)),
    ...cells([
      NUMBER.format(month.users),
      orUnknown(month.sessions),
      orUnknown(month.seat_seconds, hours),
      orUnknown(month.peak),
      orUnknown(month.denials),
    ]),
  );
}

// ---- the status line ----

function warningsOf(license) {
  const warnings = [];
  const warn = (tone, text, short = text) => warnings.push({ tone, text, short });
  if (license.suspended) warn("bad", t("suspended"), t("suspended-short"));
  if (license.ended) warn("bad", t("ended", { day: lastValidDay(license) }), t("ended-short"));
  else if (endsSoon(license))
    warn("warn", license.ends_in_days ? t("ends-in", { n: license.ends_in_days }) : t("ends-today"));
  return warnings;
}

// A license may end within a day. Then its end has a time.
function lastValidDay({ last_valid_day, valid_until }) {
  if (/^\d{4}-\d{2}-\d{2}$/.test(last_valid_day)) return date(last_valid_day);
  return `${UTC_TIME.format(new Date(valid_until))} UTC`;
}

function usedNow(license) {
  const { now } = license;
  if (!now) return [];
  const stopped = license.suspended || license.ended;
  if (now.in_use == null) {
    if (stopped) return [];
    return [now.free ? { tone: "good", text: t("seat-free") } : { tone: "warn", text: t("seat-taken") }];
  }
  const used = { used: now.in_use, n: now.total };
  const items = [
    now.in_use > now.total
      ? { tone: "warn", text: t("in-use-beyond", used) }
      : { tone: now.free ? "good" : "warn", text: t("in-use", used) },
  ];
  // A free seat is no good news where no program can start.
  if (stopped) delete items[0].tone;
  if (now.waiting) items.push({ tone: "bad", text: t("waiting", { n: now.waiting }) });
  return items;
}

function drawStatus(section, license, report, stale = false) {
  const warnings = warningsOf(license);
  const items = [...warnings.filter(({ tone }) => tone === "bad"), ...usedNow(license)];
  if (license.valid_until && !license.ended)
    items.push({ text: t("valid-until", { day: lastValidDay(license) }) });
  items.push(...warnings.filter(({ tone }) => tone === "warn"));
  const drawn = items.map(({ tone, text }) => element("li", tone ? { "data-tone": tone } : {}, text));
  const list = slot(section, "status");
  // A list that is read aloud just now is left alone as long as it says the same.
  if (drawn.length !== list.children.length || drawn.some((item, at) => !item.isEqualNode(list.children[at])))
    list.replaceChildren(...drawn);
  list.hidden = !items.length;
  drawAsOf(slot(section, "as-of"), license, report, stale);
}

const hourIn = (zone, time) => hourFormat(zone).format(new Date(time));

// A computer that slept may show what stood on another day.
function sinceWhen(zone, time) {
  const day = new Intl.DateTimeFormat(LOCALE, { dateStyle: "short", timeZone: zone });
  const today = day.format(new Date(time)) === day.format(new Date());
  return today ? hourIn(zone, time) : timeIn(zone, time).time;
}

function drawAsOf(place, { now }, report, stale) {
  place.hidden = !now;
  if (!now) return;
  const time = (stale ? sinceWhen : hourIn)(report.time_zone, now.as_of);
  place.toggleAttribute("data-stale", stale);
  place.textContent = stale ? t("now-stale", { time }) : t("now-as-of", { time });
}

// ---- the cards ----

function tiles(license, report, floating) {
  const { days } = license;
  const peak = Math.max(0, ...days.map((day) => day.peak));
  const overdraft = total(days, "overdraft_seconds");
  const known = days.filter((day) => !isSmall(day));
  const left = days.length - known.length;
  const few = fewPeople(report);
  const remarks = [
    ...(overdraft ? [t("hours-overdraft", { hours: hours(overdraft) })] : []),
    ...(left ? [t("without-days", { n: left, few })] : []),
  ];
  const used = known.some((day) => day.sessions) || !left;
  const shown = [
    tile(t("peak-card"), NUMBER.format(peak), floating ? besideSeats(license, peak) : ""),
    tile(t("hours-used"), used ? hours(total(days, "seat_seconds")) : UNKNOWN, remarks.join(", ")),
  ];
  if (floating) {
    shown.push(tile(t("refused-card"), NUMBER.format(total(days, "denials"))));
    shown.push(tile(t("waits-card"), NUMBER.format(total(days, "waits"))));
  } else {
    const users = Math.max(0, ...known.map((day) => day.users));
    shown.push(tile(t("users-card"), users || !left ? NUMBER.format(users) : few));
  }
  return [...shown, ...ranOnTiles(days, floating)];
}

function ranOnTiles(days, floating) {
  const ranOn = total(days, "grace_seconds");
  if (!ranOn) return [];
  const most = Math.max(...days.map((day) => (day.grace_seconds && day.ran_peak) || 0));
  const title = t(floating ? "beyond-card" : "unreachable-card");
  return [tile(title, hours(ranOn), most ? t("ran-at-once", { n: most }) : "")];
}

// A peak in overdraft is not a part of the seats.
function besideSeats(license, peak) {
  const every = license.days.map((day) => day.seats);
  const [least, most] = [Math.min(...every), Math.max(...every)];
  const beyond = license.days.every((day) => peak > day.seats);
  if (least < most) return t(beyond ? "peak-with-range" : "peak-of-range", { from: least, to: most });
  return t(beyond ? "peak-with" : "peak-of", { n: most });
}

function tile(term, value, remark = "") {
  return element(
    "div",
    {},
    element("dt", {}, term),
    element("dd", {}, value, " ", element("small", {}, remark)),
  );
}
