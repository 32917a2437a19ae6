// Charts with bars: the peaks of the days against the seats, and how often numbers of seats would be too small.

const HEIGHT = 212;
const MARGIN = { top: 36, right: 4, bottom: 24, left: 38 };
const NARROWEST_BAR = 2.2;
const WIDEST_BAR = 40;
const LABEL_WIDTH = 56;
const PAPER_WIDTH = 660;

// Each chart is drawn for the width that it has, and on paper for the paper's, so that its letters stay readable.
let charts = [];
// All have the same width. So only the first one is measured, which makes the browser lay out all that is there.
let usualWidth = 0;
let onPaper = false;

function keepDrawn(plot, draw) {
  let drawnFor = 0;
  const drawFor = (width) => {
    if (width === drawnFor) return;
    drawnFor = width;
    plot.replaceChildren(draw(width));
  };
  const fit = () => {
    if (onPaper) return;
    usualWidth = Math.max(200, Math.round(plot.clientWidth));
    drawFor(usualWidth);
  };
  if (charts.length) drawFor(usualWidth);
  else fit();
  charts.push({ drawFor, fit });
  new ResizeObserver(fit).observe(plot);
}

addEventListener("beforeprint", () => {
  delayed.finish();
  onPaper = true;
  charts.forEach(({ drawFor }) => drawFor(PAPER_WIDTH));
});
addEventListener("afterprint", () => {
  onPaper = false;
  charts.forEach(({ fit }) => fit());
});

function frame(width, count, top, format, label) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const y = (value) => MARGIN.top + inner.height * (1 - value / top);
  const step = inner.width / count;
  const x = (index) => MARGIN.left + index * step;
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const value of ticks(top)) {
    const line = { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) };
    svg.append(
      svgElement("line", { class: "grid", ...line }),
      svgElement("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    );
  }
  return { svg, x, y, step };
}

function ticks(top) {
  const roughStep = top / 4;
  const size = 10 ** Math.floor(Math.log10(roughStep < 1 && top >= 1 ? 1 : roughStep));
  const step = [1, 2, 5, 10].map((times) => times * size).find((candidate) => candidate >= roughStep);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, number) => number * step);
}

function barOf(place, from, to, className) {
  const gap = Math.max(place.step * 0.15, place.step - WIDEST_BAR);
  return svgElement("rect", {
    class: className,
    x: place.left + gap / 2,
    width: place.step - gap,
    y: place.y(to),
    height: place.y(from) - place.y(to),
  });
}

function withTitle(place, title) {
  return svgElement(
    "g",
    {},
    svgElement("title", {}, title),
    svgElement("rect", { class: "hit", x: place.left, width: place.step, y: 0, height: place.y(0) }),
  );
}

// ---- peaks against the seats ----

const PEAKS_TEXTS = {
  seats: { day: "peaks-seats-day", week: "peaks-seats-week" },
  sessions: { day: "peaks-sessions-day", week: "peaks-sessions-week" },
};

function showPeaks(section, license, report, floating) {
  const titles = floating ? PEAKS_TEXTS.seats : PEAKS_TEXTS.sessions;
  keepDrawn(slot(section, "plot"), (width) => {
    const perWeek = license.days.length * NARROWEST_BAR > width - MARGIN.left - MARGIN.right;
    const title = t(perWeek ? titles.week : titles.day);
    slot(section, "peaks-title").textContent = title;
    slot(section, "peaks-legend").replaceChildren(...peaksLegend(license, floating, perWeek));
    const bars = perWeek ? weeks(license.days) : license.days.map((day) => dayBar(day, report));
    const { sentence } = translated(license.verdict);
    return peaksChart(width, bars, floating, t("chart-label", { title, sentence }));
  });
}

function peaksLegend({ days }, floating, perWeek) {
  if (!floating) return [];
  const entries = [legendEntry("taken", t("legend-taken"))];
  const add = (className, text) => entries.push(legendEntry(className, text));
  if (days.some((day) => day.peak >= day.seats)) add("full", t(perWeek ? "legend-full-at-times" : "legend-full"));
  if (days.some((day) => day.peak > day.seats)) add("beyond", t("legend-overdraft"));
  if (days.some((day) => day.denials)) add("refused", t("legend-refused"));
  return entries;
}

const dayBar = (day, report) => ({
  ...day,
  name: weekdayAndDate(day.day),
  full: day.peak >= day.seats,
  remark: isSmall(day) ? fewPeople(report) : "",
});

function weeks(days) {
  const monday = (day) =>
    new Date(Date.parse(day.day) - ((new Date(day.day).getUTCDay() + 6) % 7) * 86400000)
      .toISOString()
      .slice(0, 10);
  return [...byKey(days, monday)].map(([week, of]) => ({
    day: week,
    week: true,
    name: t("week-of", { day: weekdayAndDate(week) }),
    peak: Math.max(...of.map((day) => day.peak)),
    seats: Math.max(...of.map((day) => day.seats)),
    full: of.some((day) => day.peak >= day.seats),
    denials: total(of, "denials"),
    remark: "",
  }));
}

function byKey(items, key) {
  const found = new Map();
  for (const item of items) {
    const name = key(item);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(item);
  }
  return found;
}

function peaksChart(width, bars, floating, label) {
  const top = Math.max(1, ...bars.map((bar) => Math.max(bar.peak, floating ? bar.seats : 0)));
  const { svg, x, y, step } = frame(width, bars.length, top, NUMBER.format, label);
  svg.append(...dateLabels(bars, x, step));
  svg.append(...bars.map((bar, index) => peakBar(bar, { left: x(index), step, y }, floating)));
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
          t("seats", { n: seats }),
        ),
      );
      free = x(end) - LABEL_WIDTH - 8;
    }
    end = begin;
  }
  return labels.filter((label, index) => index === 0 || label.getAttribute("x") - LABEL_WIDTH >= MARGIN.left);
}

function peakBar(bar, place, floating) {
  const withinSeats = floating ? Math.min(bar.peak, bar.seats) : bar.peak;
  const refused = bar.denials ? t("bar-refused", { n: bar.denials }) : "";
  const title = [t("bar", { when: bar.name, n: bar.peak }), refused, bar.remark].filter(Boolean).join(", ");
  const drawing = withTitle(place, title);
  if (withinSeats) drawing.append(barOf(place, 0, withinSeats, floating && bar.full ? "bar full" : "bar"));
  if (bar.peak > withinSeats) drawing.append(barOf(place, withinSeats, bar.peak, "bar beyond"));
  if (bar.denials) {
    const middle = place.left + place.step / 2;
    const half = Math.min(5, Math.max(3.5, place.step * 0.4));
    drawing.append(
      svgElement("path", { class: "refused", d: `M${middle - half} 2h${2 * half}l${-half} ${1.6 * half}z` }),
    );
  }
  return drawing;
}

function dateLabels(bars, x, step) {
  const byMonth = bars.length > 45 || bars[0]?.week;
  const everyDay = bars.length <= 14;
  const month = (bar) => bar?.day.slice(0, 7);
  const hasLabel = (bar, previous) =>
    everyDay || (byMonth ? month(bar) !== month(previous) : new Date(bar.day).getUTCDay() === 1);
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

// ---- how many seats would do ----

const DIGIT_WIDTH = 8;
const SHARE_WIDTH = 46;

function showSizing(section, license) {
  const { sizing } = license;
  const points = sizing.curve.map((point) => ({ ...point, share: sizing.hours ? point.hours / sizing.hours : 0 }));
  const sentence = sizing.translations?.[LANGUAGE] ?? sizing.sentence;
  slot(section, "sizing-sentence").textContent = sentence;
  slot(section, "sizing-span").textContent = t("sizing-span", {
    span: spanOf(date(sizing.from), date(sizing.to)),
    n: sizing.hours,
  });
  slot(section, "sizing-legend").append(legendEntry("taken", t("sizing-legend")));
  if (points.some((point) => point.seats === license.seats))
    slot(section, "sizing-legend").append(legendEntry("present", t("sizing-now")));
  slot(section, "sizing-rows").append(...points.map(sizingRow));
  const label = t("chart-label", { title: t("sizing-title"), sentence });
  keepDrawn(slot(section, "sizing-plot"), (width) => sizingChart(width, points, license, label));
}

function sizingRow(point) {
  const texts = [NUMBER.format(point.hours), FINE_PERCENT.format(point.share), orUnknown(point.starts)];
  return element("tr", {}, rowHeader(NUMBER.format(point.seats)), ...cells(texts));
}

// As many numbers of seats as there is room for bars, at equal steps, and that of now. The table has all.
function drawnPoints(points, width, seats) {
  const every = Math.ceil((points.length * NARROWEST_BAR) / (width - MARGIN.left - MARGIN.right));
  const last = points.length - 1;
  return points.filter((point, index) => (last - index) % every === 0 || point.seats === seats);
}

function sizingChart(width, all, license, label) {
  const points = drawnPoints(all, width, license.seats);
  const top = Math.max(0.01, ...points.map((point) => point.share));
  const format = (top < 0.04 ? FINE_PERCENT : PERCENT).format;
  const { svg, x, y, step } = frame(width, points.length, top, format, label);
  const numberWidth = DIGIT_WIDTH * (NUMBER.format(points.at(-1).seats).length + 1);
  const every = Math.ceil(numberWidth / step);
  const now = points.findIndex((point) => point.seats === license.seats);
  points.forEach((point, index) => {
    const place = { left: x(index), step, y };
    const middle = x(index) + step / 2;
    const present = point.seats === license.seats;
    const drawing = withTitle(place, sizingTitle(point, license.sizing.hours));
    // What is not zero can be seen.
    const least = Math.min(top, (1.5 * top) / (HEIGHT - MARGIN.top - MARGIN.bottom));
    if (point.share) drawing.append(barOf(place, 0, Math.max(least, point.share), present ? "bar present" : "bar"));
    if (step >= SHARE_WIDTH || present)
      drawing.append(
        svgElement(
          "text",
          { class: "value", x: middle, y: y(point.share) - 6, "text-anchor": "middle" },
          FINE_PERCENT.format(point.share),
        ),
      );
    const beside = now < 0 || Math.abs(index - now) * step >= numberWidth;
    if (present || (index % every === 0 && beside)) svg.append(seatsNumber(point, middle, present));
    svg.append(drawing);
  });
  return svg;
}

const seatsNumber = (point, middle, present) =>
  svgElement(
    "text",
    { class: present ? "seats-label" : "", x: middle, y: HEIGHT - 6, "text-anchor": "middle" },
    NUMBER.format(point.seats),
  );

function sizingTitle(point, all) {
  const values = { n: point.seats, hours: point.hours, all, share: FINE_PERCENT.format(point.share) };
  return t("sizing-bar", values);
}
