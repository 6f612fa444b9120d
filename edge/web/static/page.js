// Keeps the page up to date: asks for the newest reading, and shows it.

const SHOWN_MS = 500;
const HIDDEN_MS = 10_000;
const RETRY_MS = 2_000;
const TIMEOUT_MS = 5_000;
const FACTS_EVERY = 4; // polls
const OLD_SECONDS = 3; // from here on the age of a reading is told
const STALE_SECONDS = Number(document.body.dataset.staleSeconds);
const BAR_END = 1.5; // as the heatmap has it

const CAMERA = {
  reconnecting: "The camera delivers no pictures; trying to open it again.",
  offline: "The camera is offline.",
  disabled: "The camera is switched off.",
};

const $ = (id) => document.getElementById(id);
let timer;
let polls = 0;
let heatmap = null; // its sequence number, once asked for
let facts = { info: {}, health: {} };

// Touches the page only where something changed, so that nothing is announced twice.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fixed(value, digits, unit = "") {
  return value == null ? "–" : value.toFixed(digits) + unit;
}

function percent(value) {
  return value == null ? "–" : `${Math.round(value * 100)} %`;
}

async function ask(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return { values: await response.json(), headers: response.headers };
}

async function poll() {
  let state, headers;
  try {
    ({ values: state, headers } = await ask("/api/state"));
    if (polls++ % FACTS_EVERY === 0) {
      const [info, health] = await Promise.all([ask("/api/info"), ask("/api/health")]);
      facts = { info: info.values, health: health.values };
    }
  } catch {
    polls = 0;
    showState("old", "No answer from the daemon; trying again.");
    return schedule(RETRY_MS);
  }
  show(state, headers);
  schedule(document.hidden ? HIDDEN_MS : SHOWN_MS);
}

function schedule(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(poll, milliseconds);
}

function show(state, headers) {
  // Both times are the daemon's, so the clock of this machine doesn't matter.
  const age = state && (Date.parse(headers.get("Date")) - Date.parse(state.time)) / 1000;
  showState(...describe(state, age));
  showNearest(state, age);
  showZones(state);
  showHeatmap(headers.get("Heatmap-Sequence"));
  showFacts(state);
  const progress = state?.scene.state === "learning" ? state.scene.progress : null;
  $("progress").hidden = progress == null;
  $("progress").value = progress ?? 0;
}

// Returns how well it goes (good, busy, bad, or old: what is shown is no longer so) and the words for it.
function describe(state, age) {
  const camera = CAMERA[facts.health.camera];
  if (camera) return ["old", camera];
  if (!state) return ["busy", "Waiting for the first picture."];
  if (age > STALE_SECONDS) return ["old", "No new reading for a long time."];
  const { state: scene, reason, progress } = state.scene;
  switch (scene) {
    case "learning":
      return ["busy", `Learning the background, ${Math.floor((progress ?? 0) * 10) * 10} %`];
    case "lost":
      return ["bad", `Lost: ${reason ?? "the picture doesn’t fit the learned background"}.`];
    case "moving":
      return ["good", "Moving camera: zones are compared within each picture."];
    default:
      return ["good", "Live"];
  }
}

function showState(kind, text) {
  document.body.dataset.kind = kind;
  write($("state"), text);
}

function showNearest(state, age) {
  const moving = state?.mode === "moving";
  const [value, note] = moving ? nearestZone(state) : nearestRegion(state);
  const nearness = moving ? null : state?.nearest?.nearness;
  write($("nearest-title"), moving ? "Nearest zone" : "Nearest");
  write($("nearest"), value);
  write($("nearest-note"), age > OLD_SECONDS ? `${note} ${Math.round(age)} s old.`.trim() : note);
  $("bar").parentElement.hidden = moving;
  $("bar").style.clipPath = `inset(0 ${100 - Math.min(100, (100 * (nearness ?? 0)) / BAR_END)}% 0 0)`;
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

// A new picture takes the place of the old one only when it is there in full.
function showHeatmap(sequence) {
  if (sequence === null || sequence === heatmap) return;
  heatmap = sequence;
  const next = $("heatmap").cloneNode();
  next.hidden = false;
  next.onload = () => {
    $("heatmap").replaceWith(next);
    $("no-heatmap").hidden = true;
  };
  next.src = `/heatmap.jpg?${sequence}`;
}

function showFacts(state) {
  const { info, health } = facts;
  const weights = info.weights ?? {};
  write($("name"), info.name ?? "edge-depth");
  write($("notice"), weights.note ? `The readings come from ${weights.note}.` : "");
  $("notice").hidden = !weights.note;
  const heat = health.temperature_c == null ? null : fixed(health.temperature_c, 0, " °C");
  showList($("daemon"), {
    Rate: fixed(health.fps, 1, " readings/s"),
    Latency: fixed(state?.latency_ms, 0, " ms"),
    Network: fixed(health.inference_ms?.p50, 0, " ms"),
    "View quality": percent(state?.quality),
    Broker: { true: "connected", false: health.mqtt_problem ?? "not connected" }[health.mqtt_connected] ?? null,
    Temperature: heat && (health.throttled ? `${heat}, throttled` : heat),
    Weights: weights.name ?? "–",
    Engine: info.engine ? `${info.engine}, threads: ${info.threads}` : "–",
    Version: info.version ?? "–",
  });
}

// Shows names and values; what is null has no line.
function showList(list, values) {
  const lines = Object.entries(values).filter(([, value]) => value !== null);
  if (list.children.length !== 2 * lines.length) {
    list.replaceChildren(...lines.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
  }
  lines.flat().forEach((text, i) => write(list.children[i], text));
}

document.addEventListener("visibilitychange", () => document.hidden || schedule(0));
poll();
