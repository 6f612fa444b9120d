// The live picture, and what is drawn over it: zones, what is nearest, triggers that are on.

import { $, fixed, make, put, svg, write } from "./dom.js";

const RETRY_MS = 2_000;
let view = "depth";
let off = null; // why no picture comes, if none does
let zones = []; // of the configuration in force
let triggers = [];
let timer;

export function start() {
  const picture = $("picture");
  picture.addEventListener("load", shown);
  picture.addEventListener("error", () => {
    hide();
    timer = setTimeout(watch, RETRY_MS);
  });
  $("views")?.addEventListener("change", (event) => {
    view = event.target.value;
    picture.alt = view === "picture" ? "Live picture" : "Live depth heatmap: warm is near, cold is far";
    watch();
  });
  document.addEventListener("visibilitychange", watch);
  watch();
}

// Asks for the pictures anew: after a loss of the daemon, or of whoever sees the page.
export function watch() {
  clearTimeout(timer);
  const needed = !off && !document.hidden && $("main").dataset.part !== "try";
  if (needed) $("picture").src = `/stream.mjpg?view=${view}&${Date.now()}`;
  else $("picture").removeAttribute("src");
}

// Takes over why no picture comes, null where pictures come.
export function withhold(reason) {
  if (off === reason) return;
  off = reason;
  write($("no-picture"), off ?? "No picture yet");
  if (off) hide();
  watch();
}

function shown() {
  if (off) return;
  const { naturalWidth, naturalHeight } = $("picture");
  $("view").style.setProperty("--aspect", naturalWidth / naturalHeight);
  $("picture").hidden = false;
  $("no-picture").hidden = true;
}

function hide() {
  $("picture").hidden = true;
  $("no-picture").hidden = false;
}

export function configure(values) {
  zones = values.zones;
  triggers = values.triggers;
}

export function draw(state) {
  const editing = $("main").dataset.part === "setup";
  const on = triggers.filter((trigger) => state?.triggers[trigger.name]?.on);
  const parts = editing ? [] : zones.map((zone) => zoneMark(zone, state, on));
  const nearest = state?.scene.state === "tracking" ? state.nearest : null;
  if (nearest) parts.push(boxMark(nearest));
  $("marks").replaceChildren(...parts.map((part) => part.shape));
  label(parts.filter((part) => part.words));
  $("view").classList.toggle("alarm", on.length > 0 && !editing);
}

function zoneMark(zone, state, on) {
  const classes = ["zone"];
  if (state?.zones[zone.name]?.occupied) classes.push("occupied");
  if (on.some((trigger) => trigger.zone === zone.name)) classes.push("on");
  const shape = svg("polygon", { points: zone.polygon.map((corner) => corner.join(",")).join(" "), class: classes.join(" ") });
  const [x, y] = zone.polygon.reduce((best, corner) => (corner[0] + corner[1] < best[0] + best[1] ? corner : best));
  return { shape, words: zone.name, x, y, kind: "zone-name" };
}

function boxMark(nearest) {
  const [left, top, right, bottom] = nearest.box;
  const shape = svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: "nearest" });
  const words = nearest.distance_m == null ? fixed(nearest.nearness, 2) : fixed(nearest.distance_m, 2, " m");
  return { shape, words, x: left, y: top, kind: "box-name" };
}

function label(parts) {
  const labels = $("labels");
  while (labels.children.length < parts.length) labels.append(make("span"));
  while (labels.children.length > parts.length) labels.lastChild.remove();
  parts.forEach((part, i) => {
    const element = labels.children[i];
    write(element, part.words);
    element.className = part.kind;
    put(element, part.x, part.y);
  });
}
