// Keeps the page up to date: shows every reading, and which part of the page was asked for.

import * as chart from "./chart.js";
import { $, ask, fixed, make, percent, write } from "./dom.js";
import { follow } from "./live.js";
import * as doubt from "./doubt.js";
import * as setup from "./setup.js";
import * as trial from "./try.js";
import * as view from "./view.js";

const OLD_SECONDS = 3; // from here on the age of a reading is told
const STALE_SECONDS = Number(document.body.dataset.staleSeconds);
const BAR_END = 1.5; // as the heatmap has it
const PARTS = ["live", "try", "setup"];

const CAMERA = {
  reconnecting: "The camera delivers no pictures; trying to open it again.",
  offline: "The camera is offline.",
  disabled: "The camera is switched off.",
};

const now = { state: null, age: null, at: 0, info: {}, health: {}, gone: null };

const take = {
  info(info) {
    const other = info.config_hash !== now.info.config_hash;
    now.info = info;
    view.withhold(info.heatmap === false ? "The heatmap is switched off: heatmap.enabled is false." : (info.withheld ?? null));
    doubt.show(info.doubts ?? []);
    if (other) loadSettings();
    show();
  },
  health(health) {
    now.health = health;
    show();
  },
  state({ now: time, state }) {
    if (now.gone) view.watch();
    now.gone = null;
    now.state = state;
    now.age = state && time - Date.parse(state.time) / 1000; // both are the daemon's clock
    now.at = performance.now();
    if (state) chart.add(Date.parse(state.time) / 1000, state.nearest);
    show();
  },
  gone(words) {
    now.gone = words;
    show();
  },
};

async function loadSettings() {
  try {
    const settings = await (await ask("/api/setup")).json();
    view.configure(settings.values);
    document.body.dataset.colormap = settings.colormap;
    setup.load(settings);
  } catch {
    setTimeout(loadSettings, 2_000); // the network may still be being loaded
  }
}

function show() {
  const { state } = now;
  const age = state && now.age + (performance.now() - now.at) / 1000;
  showState(...describe(state, age));
  showBroker();
  showNearest(state, age);
  showTriggers(state);
  showZones(state);
  view.draw(state);
  showFacts(state);
  const progress = !now.gone && state?.scene.state === "learning" ? state.scene.progress : null;
  $("progress").hidden = progress == null;
  $("progress").value = progress ?? 0;
}

// Returns how well it goes (good, busy, bad, or old: what is shown is no longer so) and the words for it.
function describe(state, age) {
  if (now.gone) return ["old", now.gone];
  const camera = CAMERA[now.health.camera];
  if (camera) return ["old", camera];
  if (!state) return ["busy", "Waiting for the first picture."];
  if (age > STALE_SECONDS) return ["old", "No new reading for a long time."];
  const { state: scene, reason, progress } = state.scene;
  switch (scene) {
    case "learning":
      if (progress == null) return ["busy", `Learning: ${reason}.`];
      return ["busy", `Learning the background, ${Math.floor(progress * 10) * 10} %`];
    case "lost":
      return ["bad", `Lost: ${reason ?? "the picture doesn’t fit the learned background"}.`];
    case "moving":
      return ["good", "Moving camera: zones are compared within each picture."];
    default:
      return ["good", reason ? `Live: ${reason}.` : "Live"];
  }
}

function showState(kind, text) {
  document.body.dataset.kind = kind;
  write($("state"), text);
}

function showBroker() {
  const { mqtt_connected: connected, mqtt_problem: problem } = now.health;
  const gone = connected === false;
  write($("broker"), gone ? `The broker is gone${problem ? `: ${problem}` : ""}. Readings go on here.` : "");
  $("broker").hidden = !gone;
}

function showNearest(state, age) {
  const moving = state?.mode === "moving";
  const [value, note] = moving ? nearestZone(state) : nearestRegion(state);
  const nearness = moving ? null : state?.nearest?.nearness;
  write($("nearest-title"), moving ? "Nearest zone" : "Nearest");
  write($("nearest"), value);
  write($("nearest-note"), age > OLD_SECONDS ? `${note} ${Math.round(age)} s old.`.trim() : note);
  $("bar").parentElement.hidden = moving;
  $("bar").style.left = `${Math.min(100, (100 * (nearness ?? 0)) / BAR_END)}%`;
}

function nearestZone(state) {
  const name = state.zone_order[0];
  if (!name) return ["–", "No zone stands out."];
  return [name, `Prominence ${fixed(state.zones[name].prominence, 2)}: how far it stands out of the picture.`];
}

function nearestRegion(state) {
  const region = state?.nearest;
  if (!region) return ["–", state?.scene.state === "tracking" ? "Nothing is nearer than the background." : ""];
  const parts = [];
  const metres = region.distance_m != null;
  if (metres) {
    if (region.uncertainty_m != null) parts.push(`± ${fixed(region.uncertainty_m, 2)} m.`);
    if (region.extrapolated) parts.push("Nearer than every calibration point.");
    if (region.speed_mps != null) {
      const verb = region.speed_mps > 0 ? "Coming nearer" : "Going away";
      parts.push(`${verb} at ${fixed(Math.abs(region.speed_mps), 1)} m/s.`);
    }
  } else {
    parts.push("Nearness: 0 is the far, 1 the near end of the background.");
  }
  if (region.zones.length) parts.push(`In ${region.zones.join(", ")}.`);
  if (region.bearing_deg != null) {
    parts.push(`${fixed(Math.abs(region.bearing_deg), 0)}° to the ${region.bearing_deg < 0 ? "left" : "right"}.`);
  }
  return [metres ? fixed(region.distance_m, 2, " m") : fixed(region.nearness, 2), parts.join(" ")];
}

function showTriggers(state) {
  const triggers = Object.entries(state?.triggers ?? {});
  $("triggers-card").hidden = triggers.length === 0;
  const list = $("triggers");
  if (list.children.length !== triggers.length) {
    list.replaceChildren(...triggers.map(() => make("li", {}, make("strong"), make("span", { className: "soft" }))));
  }
  triggers.forEach(([name, { on, reason }], i) => {
    const item = list.children[i];
    item.dataset.on = on;
    write(item.children[0], name);
    const words = { true: "ON", false: "off" }[on] ?? "not known yet";
    write(item.children[1], reason ? `${words}, frozen: ${reason}` : words);
  });
}

function showZones(state) {
  const zones = Object.entries(state?.zones ?? {});
  $("zones").hidden = zones.length === 0;
  $("no-zones").hidden = !state || zones.length > 0;
  const moving = state?.mode === "moving";
  const head = moving ? ["Zone", "Prominence"] : ["Zone", "Occupied", "Nearness", "Coverage"];
  const rows = zones.map(([name, zone]) =>
    moving
      ? [name, fixed(zone.prominence, 2)]
      : [name, { true: "yes", false: "no" }[zone.occupied] ?? "–", fixed(zone.nearness, 2), percent(zone.coverage)],
  );
  fill($("zones").tHead, [head], "col");
  fill($("zones").tBodies[0], rows, "row");
  zones.forEach(([, zone], i) => $("zones").tBodies[0].rows[i].toggleAttribute("data-occupied", zone.occupied === true));
}

// Makes the cells of a table's part say what `rows` says; the first of each row is its heading.
function fill(part, rows, scope) {
  if (part.rows.length !== rows.length || part.rows[0]?.cells.length !== rows[0]?.length) {
    part.replaceChildren(...rows.map((row) => newRow(row.length, scope)));
  }
  rows.forEach((row, i) => row.forEach((text, j) => write(part.rows[i].cells[j], text)));
}

function newRow(length, scope) {
  const row = document.createElement("tr");
  for (let i = 0; i < length; i++) {
    const cell = document.createElement(scope === "col" || i === 0 ? "th" : "td");
    if (cell.tagName === "TH") cell.scope = scope;
    row.append(cell);
  }
  return row;
}

function showFacts(state) {
  const { info, health } = now;
  const weights = info.weights ?? {};
  write($("name"), info.name ?? $("name").textContent);
  write($("notice"), weights.note ? `The readings come from ${weights.note}.` : "");
  $("notice").hidden = !weights.note;
  const heat = health.temperature_c == null ? null : fixed(health.temperature_c, 0, " °C");
  showList($("daemon"), {
    Camera: health.camera ?? "–",
    Broker: { true: "connected", false: "not connected" }[health.mqtt_connected] ?? null,
    Rate: fixed(health.fps, 1, " readings/s"),
    Latency: fixed(state?.latency_ms, 0, " ms"),
    Network: fixed(health.inference_ms?.p50, 0, " ms"),
    "View quality": percent(state?.quality),
    Temperature: heat && (health.throttled ? `${heat}, throttled` : heat),
    Memory: health.rss_mb == null ? null : fixed(health.rss_mb, 0, " MB"),
    Weights: weights.name ?? "–",
    Engine: info.engine ? `${info.engine}, threads: ${info.threads}` : "–",
    Version: info.version ?? "–",
  });
}

// Shows names and values; what is null has no line.
function showList(list, values) {
  const lines = Object.entries(values).filter(([, value]) => value !== null);
  if (list.children.length !== 2 * lines.length) {
    list.replaceChildren(...lines.flatMap(() => [make("dt"), make("dd")]));
  }
  lines.flat().forEach((text, i) => write(list.children[i], text));
}

// Shows the part of the page that the address names.
function showPart() {
  const named = location.hash.slice(1);
  const part = PARTS.includes(named) ? named : ($("main").dataset.part ?? "live");
  const before = $("main").dataset.part;
  if (before === "setup" && part !== before && !setup.mayLeave()) return history.replaceState(null, "", "#setup");
  $("main").dataset.part = part;
  for (const element of document.querySelectorAll("[data-for]")) element.hidden = element.dataset.for !== part;
  $("stage").hidden = part === "try";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  setup.show(part === "setup");
  if ((part === "try") !== (before === "try")) view.watch();
  view.draw(now.state);
}

async function loadHistory() {
  try {
    chart.begin(await (await ask("/api/history")).json());
  } catch {
    // it begins with the next reading
  }
}

window.addEventListener("hashchange", showPart);
setInterval(show, 1_000); // ages grow
trial.start();
setup.start();
doubt.start();
showPart();
loadHistory();
follow(take);
// The stream never ends: begun any earlier, the page would count as loading for ever.
if (document.readyState === "complete") view.start();
else window.addEventListener("load", view.start);
