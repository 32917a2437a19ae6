// The busy hours of the week, as a heat map and as a table.

function showBusyHours(section, license, report, floating) {
  const legend = slot(section, "busy-legend");
  if (!license.busy) {
    legend.textContent = t("busy-none", { few: fewPeople(report) });
    slot(section, "heat").remove();
    slot(section, "hours").remove();
    return;
  }
  const scale = heatScale(license, floating);
  legend.append(
    t("busy-legend", { zone: report.time_zone }),
    legendEntry("scale", scale.text),
    legendEntry("few", fewPeople(report)),
  );
  if (scale.everFull) legend.append(legendEntry("ever", t("legend-full-at-times")));
  drawHeat(slot(section, "heat"), license.busy, report, scale);
  fillHours(slot(section, "hours"), license.busy, report, floating);
}

// The shades go up to all seats; where use is far below, up to the greatest mean, since all would look alike.
function heatScale(license, floating) {
  const seen = license.busy.flat().filter((hour) => hour !== null);
  const bySeats = floating && !seatsChanged(license);
  const most = Math.max(1, ...seen.map((hour) => hour.most));
  const full = floating ? Math.max(1, ...license.days.map((day) => day.seats)) : most;
  const greatest = Math.max(0, ...seen.map((hour) => hour.mean));
  const scale = { floating, full, bySeats, everFull: bySeats && most >= full };
  if (greatest > 0 && greatest < full / 2)
    return { ...scale, darkest: greatest, text: t("scale-own", { most: TENTHS.format(greatest) }) };
  return { ...scale, darkest: full, text: bySeats ? t("scale-all") : t("scale-to", { most: full }) };
}

// Short on the screen, whole for screen readers.
const weekday = (number) => [
  element("span", { "aria-hidden": "true" }, SHORT_WEEKDAYS[number]),
  spoken(WEEKDAYS[number]),
];

function fillHours(within, busy, report, floating) {
  const part = (name) => within.querySelector(name);
  const few = fewPeople(report);
  const cell = (hour) =>
    hour
      ? element("td", {}, hour.most ? `${TENTHS.format(hour.mean)} (${NUMBER.format(hour.most)})` : "0")
      : element("td", { title: capital(few) }, element("span", { "aria-hidden": "true" }, UNKNOWN), spoken(few));
  part("p").textContent = t(floating ? "hours-explained-seats" : "hours-explained-sessions", { few });
  part("thead").append(
    element(
      "tr",
      {},
      element("th", { scope: "col" }, t("column-hour")),
      ...WEEKDAYS.map((_, number) => element("th", { scope: "col" }, ...weekday(number))),
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
  const hourHeader = (hour) => element("th", { scope: "col" }, hour % 3 ? spoken(hour) : String(hour));
  const caption = t(scale.floating ? "heat-caption-seats" : "heat-caption-sessions");
  table.append(
    element("caption", { class: "hidden" }, caption),
    element("colgroup", {}, element("col"), element("col", { span: 24 })),
    element("thead", {}, element("tr", {}, element("td"), ...allHours.map(hourHeader))),
    element("tbody", {}, ...busy.map((day, number) => heatRow(day, number, report, scale))),
  );
}

function heatRow(day, number, report, scale) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, ...weekday(number)),
    ...day.map((hour, at) => heatCell(hour, report, scale, `${WEEKDAYS[number]} ${at}–${at + 1}`)),
  );
}

function heatCell(hour, report, { full, darkest, bySeats }, when) {
  if (!hour) {
    const few = fewPeople(report);
    return element("td", { class: "few", title: `${when}: ${few}` }, spoken(few));
  }
  const { mean, most } = hour;
  const everFull = bySeats && most >= full;
  return element(
    "td",
    {
      "data-level": Math.min(5, Math.ceil((5 * mean) / darkest)),
      class: everFull ? "ever" : "",
      title: t("heat-hour", { when, mean: TENTHS.format(mean), most }),
    },
    spoken(TENTHS.format(mean) + (everFull ? `, ${t("legend-full-at-times")}` : "")),
  );
}
