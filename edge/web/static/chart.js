// Draws how near the nearest was in the last ten minutes.

import { $, fixed, svg, write } from "./dom.js";

const SECONDS = 600;
const WIDTH = 600;
const HEIGHT = 120;
const LEAST_METRES = 4; // that the chart spans
const LEAST_NEARNESS = 1.5;
const GAP_SECONDS = 5; // without a reading: the line is broken there
const rows = [];

// Each row is the time in seconds, nearness, and metres; what is not known is null.
export function begin(history) {
  rows.splice(0, rows.length, ...history);
  draw();
}

export function add(time, nearest) {
  const last = rows.at(-1);
  if (last && time - last[0] < 1) return;
  rows.push([time, nearest?.nearness ?? null, nearest?.distance_m ?? null]);
  while (rows[0][0] < time - SECONDS) rows.shift();
  draw();
}

function draw() {
  const inMetres = rows.some((row) => row[2] != null);
  const seen = rows.map((row) => [row[0], row[inMetres ? 2 : 1]]);
  const values = seen.map((row) => row[1]).filter((value) => value != null);
  const chart = $("chart");
  if (!rows.length) return;
  const most = Math.max(inMetres ? LEAST_METRES : LEAST_NEARNESS, ...values);
  const y = (value) => (inMetres ? value / most : 1 - value / most) * (HEIGHT - 8) + 4; // near is up
  const now = rows.at(-1)[0];
  const x = (time) => WIDTH * (1 - (now - time) / SECONDS);
  const path = lines(seen).map((line) => "M" + line.map(([t, v]) => `${x(t).toFixed(1)} ${y(v).toFixed(1)}`).join("L"));
  chart.replaceChildren(
    svg("path", { d: `M0 ${HEIGHT - 4}H${WIDTH}`, class: "axis" }),
    svg("path", { d: path.map((line) => (line.includes("L") ? line : `${line}h1.5`)).join(""), class: "line" }),
  );
  const unit = inMetres ? " m" : "";
  const nearest = inMetres ? Math.min(...values) : Math.max(...values);
  write($("chart-span"), values.length ? `nearest ${fixed(nearest, 2, unit)}` : "nothing came near");
  const words = values.length ? `${$("chart-span").textContent}, last ${fixed(values.at(-1), 2, unit)}` : "nothing came near";
  chart.setAttribute("aria-label", `The last ten minutes: ${words}`);
}

// Returns the pieces of the line: where something was near without a break.
function lines(seen) {
  const found = [];
  let before = null;
  for (const row of seen) {
    if (row[1] != null) {
      if (before && row[0] - before[0] < GAP_SECONDS) found.at(-1).push(row);
      else found.push([row]);
    }
    before = row[1] == null ? null : row;
  }
  return found;
}
