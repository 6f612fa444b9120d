// What the draft would do by the daemon's own reckoning: problems, the difference, and what would be read now.

import { $, fixed, make, write } from "./dom.js";

export function clear() {
  $("problems").replaceChildren();
  showDifference([]);
}

export function show(answer, draft) {
  const { problems = [], difference = [] } = answer;
  $("problems").replaceChildren(...problems.map((text) => make("p", { className: "bad", textContent: text })));
  showDifference(difference.map((line) => `${line}\n`));
  if (problems.length) {
    for (const item of $("trigger-list").children) forget(item);
    return;
  }
  showZones(answer.zones, draft.zones);
  showTriggers(answer.triggers, draft.triggers);
  showFit(answer.fit, draft.calibration.points);
}

function showDifference(lines) {
  $("difference").hidden = !lines.length;
  if ($("difference").textContent === lines.join("")) return; // somebody may be scrolling in it
  const tag = (line) => ({ "+": "ins", "-": "del" })[line[0]] ?? "span";
  $("difference").replaceChildren(...lines.map((line) => make(tag(line), { textContent: line })));
}

function showZones(found, zones) {
  zones.forEach((zone, i) => {
    const now = found[zone.name];
    const words = { true: `occupied now, nearness ${fixed(now?.nearness, 2)}`, false: "free now" }[now?.occupied];
    write($("zone-list").children[i].querySelector(".now"), words ?? "");
  });
}

function showTriggers(found, triggers) {
  triggers.forEach((trigger, i) => {
    const item = $("trigger-list").children[i];
    const now = found[trigger.name];
    if (!now) return;
    const level = now.level == null ? "nothing there" : fixed(now.level, 2, trigger.measure === "metres" ? " m" : "");
    const words = {
      near: `Now ${level}: would fire`,
      between: `Now ${level}: between the levels, stays as it is`,
      clear: `Now ${level}: would not fire`,
      frozen: `Can’t be known now: ${now.reason}`,
    }[now.event];
    item.dataset.event = now.event;
    write(item.querySelector(".now"), words);
    const { min, max } = item.querySelector("[type=range]");
    const mark = item.querySelector(".mark");
    mark.hidden = now.level == null;
    mark.style.left = `${(100 * Math.min(1, Math.max(0, (now.level - min) / (max - min)))).toFixed(1)}%`;
  });
}

function forget(item) {
  delete item.dataset.event;
  write(item.querySelector(".now"), "");
  item.querySelector(".mark").hidden = true;
}

function showFit(fit, points) {
  let read = 0;
  points.forEach((point, i) => {
    const found = point.metres == null ? null : fit?.points?.[read++];
    const off = found?.read_m == null ? null : found.read_m - point.metres;
    const error = found?.uncertainty_m == null ? "" : ` ± ${fixed(found.uncertainty_m, 2)}`;
    const sign = off < 0 ? "−" : "+";
    const miss = `off by ${sign}${fixed(Math.abs(off ?? 0), 2)} m`;
    const words = off == null ? "" : `reads ${fixed(found.read_m, 2)}${error} m, ${miss}`;
    write($("point-list").children[i].querySelector(".now"), words);
  });
  $("fit").classList.toggle("bad", fit?.problem != null);
  write($("fit"), fitWords(fit));
}

function fitWords(fit) {
  if (!fit) return "";
  if (fit.problem) return fit.problem;
  const errors = fit.expected.filter((row) => row.uncertainty_m != null);
  if (fit.residual == null || !errors.length) return "Fits. Measure a third place to know the error.";
  const list = errors.map((row) => `${fixed(row.uncertainty_m, 2)} m at ${row.metres} m`).join(", ");
  return `Fits with a residual of ${fit.residual.toFixed(3)} 1/m. Expected error: ${list}.`;
}
