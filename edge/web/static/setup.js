// What may be changed: a draft of it, what it would do by the daemon's own reckoning, and how it is applied.

import * as outlook from "./answer.js";
import { $, change, make, write } from "./dom.js";
import * as shapes from "./shapes.js";

const ASK_MS = 250; // after the last change
const AGAIN_MS = 1_000; // what would fire now changes with every reading
const NEARNESS = { min: 0.05, max: 1.5, step: 0.01 };
const METRES = { min: 0.1, max: 10, step: 0.05 };
const FLOOR = [[0.2, 0.6], [0.8, 0.6], [0.95, 0.98], [0.05, 0.98]];

let settings = null; // what the draft was made from
let newer = null; // what somebody else has set since
let draft = null; // a trigger's `zone` is here the zone itself, so that it goes along with another name
let begun = ""; // the draft as it was made
let answer = null; // what the draft would do
let isShown = false;
let isUnanswered = false; // the last question, and that is told
let timer;
let turn = 0;
let names = 0;

export function start() {
  shapes.start(changed, () => draft && showButtons());
  $("add-zone").addEventListener("click", addZone);
  $("add-mask").addEventListener("click", addMask);
  $("add-trigger").addEventListener("click", addTrigger);
  $("add-point").addEventListener("click", addPoint);
  $("apply").addEventListener("click", apply);
  $("undo").addEventListener("click", () => send("undo"));
  $("discard").addEventListener("click", discard);
  $("relearn").addEventListener("click", relearn);
  window.addEventListener("beforeunload", (event) => unfinished() && event.preventDefault());
}

// Takes over the settings; a draft with changes of its own stays, and is refused when it is applied.
export function load(found) {
  if (found.revision === settings?.revision) {
    // What was applied here, or is again as it was: whoever draws goes on.
    if (newer) say("");
    newer = null;
  } else if (!settings || !isChanged()) {
    begin(found);
  } else {
    newer = found;
    say("The settings were changed by somebody else; Discard loads them.", true);
  }
}

export function show(visible) {
  isShown = visible;
  $("canvas").hidden = !visible;
  if (!visible) shapes.cancel();
  clearTimeout(timer);
  if (visible && draft) propose();
}

// Returns whether Set up may be left: asks where something in it is not finished.
export function mayLeave() {
  const why = unfinished();
  return !why || confirm(`${why} Leave Set up all the same?`);
}

// Returns in words what is not finished, or "".
function unfinished() {
  if (shapes.isOpen()) return "A shape is not finished: it would be dropped.";
  if (halfTyped()) return "A number is not finished.";
  return draft && isChanged() ? "The changes are not applied." : "";
}

// Returns the field with a number that is none yet: it would count as empty.
function halfTyped() {
  return [...document.querySelectorAll("[data-for=setup] input")].find((input) => input.validity.badInput);
}

function discard() {
  shapes.cancel();
  begin(newer ?? settings);
}

// Applies all that is to be seen: what is being drawn is finished first, and nothing is left out.
async function apply() {
  if (!(await shapes.settle())) return say("Finish the shape, or discard it, before you apply: it needs three corners at least.", true);
  const i = draft.calibration.points.findIndex((point) => point.metres == null);
  const field = i < 0 ? halfTyped() : $("point-list").children[i].querySelector("input");
  if (!field) return send("apply", { ...changes(), revision: settings.revision });
  say(i < 0 ? "A number is not finished: type it, or empty the field, before you apply." : `Type the metres to place ${i + 1}, or remove it, before you apply.`, true);
  field.focus();
}

function begin(found) {
  settings = found;
  newer = null;
  draft = structuredClone(settings.values);
  draft.zones.forEach((zone) => (zone.id = `zone-${names++}`));
  for (const trigger of draft.triggers) trigger.zone = draft.zones.find((zone) => zone.name === trigger.zone) ?? null;
  draft.privacy_masks = draft.privacy_masks.map((polygon) => ({ polygon, id: `mask-${names++}` }));
  begun = JSON.stringify(whole());
  answer = null;
  outlook.clear();
  render();
  propose();
}

function isChanged() {
  return JSON.stringify(whole()) !== begun;
}

// Returns the draft as the daemon takes it; a place without metres is not one yet.
function values() {
  const found = whole();
  found.calibration.points = found.calibration.points.filter((point) => point.metres != null);
  return found;
}

// What is sent counts as set anew, for the camera's view as it is: only what was changed is.
function changes() {
  const [before, found] = [JSON.parse(begun), values()];
  return Object.fromEntries(Object.entries(found).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(before[key])));
}

function whole() {
  const { points, floor, max_metres } = draft.calibration;
  return {
    zones: draft.zones.map(({ name, polygon }) => ({ name, polygon })),
    privacy_masks: draft.privacy_masks.map((mask) => mask.polygon),
    triggers: draft.triggers.map((trigger) => ({ ...trigger, zone: trigger.zone?.name ?? null })),
    calibration: {
      points: points.map(({ x, y, metres }) => ({ x, y, metres })),
      floor: floor && { height_metres: floor.height_metres, tilt_deg: floor.tilt_deg, polygon: floor.polygon },
      max_metres,
    },
  };
}

function changed() {
  drawShapes();
  showButtons();
  clearTimeout(timer);
  timer = setTimeout(propose, ASK_MS);
}

async function propose() {
  if (!isShown || !draft) return;
  const mine = ++turn;
  try {
    const found = await change("propose", values());
    if (mine !== turn) return;
    answer = found;
    if (isUnanswered) say("");
    showAnswer();
  } catch (error) {
    if (mine !== turn) return;
    say(error.message, true);
    isUnanswered = true;
  }
  clearTimeout(timer);
  if (isShown && !document.hidden) timer = setTimeout(propose, AGAIN_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || propose());

async function send(command, body = {}) {
  clearTimeout(timer);
  turn++;
  try {
    const found = await change(command, body);
    const kept = found.written ? "" : " They could not be written: a restart will not know of them; the log says why.";
    say(command === "apply" ? `Applied.${kept}` : `Gone back to what was before.${kept}`);
    begin(found);
  } catch (error) {
    say(error.message, true);
    propose();
  }
}

async function relearn() {
  try {
    await change("relearn");
    say("The background is learned anew; keep the view free of people and things.");
  } catch (error) {
    say(error.message, true);
  }
}

function say(words, isBad = false) {
  isUnanswered = false;
  $("setup-state").classList.toggle("bad", isBad);
  write($("setup-state"), words);
}

// --- what is added --------------------------------------------------------------------------------------------------

function freeName(kind, list) {
  const taken = new Set(list.map((each) => each.name));
  for (let i = 1; ; i++) if (!taken.has(`${kind}-${i}`)) return `${kind}-${i}`;
}

async function addZone() {
  const name = freeName("zone", draft.zones);
  const polygon = await shapes.polygon(`Draw ${name}`);
  if (!polygon) return $("add-zone").focus();
  const id = `zone-${names++}`;
  draft.zones.push({ id, name, polygon });
  render();
  shapes.select(id);
  const input = $("zone-list").lastElementChild.querySelector("input");
  input.focus();
  input.select();
}

async function addMask() {
  const polygon = await shapes.polygon("Draw what is to be black");
  if (polygon) {
    const id = `mask-${names++}`;
    draft.privacy_masks.push({ id, polygon });
    render();
    shapes.select(id);
  }
  $("add-mask").focus();
}

function addTrigger() {
  const inMetres = draft.calibration.points.length > 1 || draft.calibration.floor != null;
  draft.triggers.push({
    name: freeName("trigger", draft.triggers),
    zone: draft.zones.at(-1) ?? null,
    measure: inMetres ? "metres" : "nearness",
    near: inMetres ? 1.5 : 0.8,
  });
  render();
  $("trigger-list").lastElementChild.querySelector("input").focus();
}

async function addPoint() {
  const found = await shapes.place("A place that you have measured");
  if (!found) return $("add-point").focus();
  draft.calibration.points.push({ x: found[0], y: found[1], metres: null });
  render();
  $("point-list").lastElementChild.querySelector("input").focus();
}

function remove(list, each) {
  list.splice(list.indexOf(each), 1);
  render();
}

// --- the forms ------------------------------------------------------------------------------------------------------

function render() {
  $("zone-list").replaceChildren(...draft.zones.map(zoneForm));
  $("mask-list").replaceChildren(...draft.privacy_masks.map(maskForm));
  $("trigger-list").replaceChildren(...draft.triggers.map(triggerForm));
  $("point-list").replaceChildren(...draft.calibration.points.map(pointForm));
  $("floor-form").replaceChildren(...floorForm());
  $("floor").open ||= draft.calibration.floor != null;
  $("relearn").disabled = settings.mode !== "still";
  changed();
  if (answer) showAnswer();
}

function showAnswer() {
  outlook.show(answer, draft);
  showButtons();
}

function showButtons() {
  const { problems = [], difference = [], fit } = answer ?? {};
  const isDraft = isChanged() || shapes.isOpen() || newer != null;
  $("no-difference").hidden = isDraft || !$("difference").hidden || $("problems").hasChildNodes();
  $("apply").disabled = problems.length > 0 || !(difference.length || shapes.isOpen()) || fit?.problem != null;
  $("discard").disabled = !isDraft;
  $("undo").disabled = !settings.can_undo || isDraft;
  $("undo").title = isDraft ? "Apply or discard the changes first" : "";
}

function drawShapes() {
  const { floor } = draft.calibration;
  for (const zone of draft.zones) zone.label = zone.name;
  draft.privacy_masks.forEach((mask, i) => Object.assign(mask, { kind: "mask", label: `mask ${i + 1}` }));
  for (const zone of draft.zones) zone.kind = "zone";
  const drawn = [...draft.privacy_masks, ...draft.zones];
  if (floor) drawn.push(Object.assign(floor, { id: "floor", kind: "floor", label: "floor" }));
  shapes.show(drawn, draft.calibration.points);
}

function field(words, input) {
  return make("label", { className: "field" }, make("span", { textContent: words }), input);
}

// Returns what stands in a field: whatever number that is, the daemon has to say something of it.
function numberIn(input) {
  return input.value === "" ? null : Number(input.value);
}

function remover(words, action) {
  return make("button", { className: "quiet", textContent: "Remove", onclick: action, aria: { label: words } });
}

function zoneForm(zone) {
  const input = make("input", { value: zone.name, maxLength: 60, autocomplete: "off", spellcheck: false });
  input.addEventListener("input", () => {
    zone.name = input.value.trim();
    $("trigger-list").replaceChildren(...draft.triggers.map(triggerForm));
    changed();
  });
  input.addEventListener("focus", () => shapes.select(zone.id));
  return make("li", {}, field("Name", input), remover(`Remove the zone ${zone.name}`, () => remove(draft.zones, zone)), make("p", { className: "now soft" }));
}

function maskForm(mask, i) {
  const choose = make("button", { className: "quiet", textContent: `Mask ${i + 1}`, onclick: () => shapes.select(mask.id) });
  return make("li", {}, choose, remover(`Remove mask ${i + 1}`, () => remove(draft.privacy_masks, mask)));
}

function choice(value, options, onPick) {
  const select = make("select", { onchange: () => onPick(select.value) });
  select.append(...options.map(([text, words]) => make("option", { value: text, textContent: words, selected: text === value })));
  return select;
}

// Returns the choice of what a trigger watches; a zone that was removed stays in sight until another one has its name.
function zoneChoice(trigger) {
  const own = trigger.zone;
  const isGone = own != null && !draft.zones.includes(own);
  const now = (isGone && draft.zones.find((zone) => zone.name === own.name)) || own;
  const zones = [["", "the whole picture"], ...draft.zones.map((zone) => [zone.id, zone.name])];
  if (isGone && now === own) zones.push([own.id, `${own.name} (removed)`]);
  return choice(now?.id ?? "", zones, (id) => {
    trigger.zone = [...draft.zones, own].find((zone) => zone?.id === id) ?? null;
    changed();
  });
}

function triggerForm(trigger) {
  const name = make("input", { value: trigger.name, maxLength: 60, autocomplete: "off", spellcheck: false });
  name.addEventListener("input", () => {
    trigger.name = name.value.trim();
    changed();
  });
  const measure = choice(trigger.measure, [["nearness", "nearness"], ["metres", "metres"]], (value) => {
    Object.assign(trigger, { measure: value, near: value === "metres" ? 1.5 : 0.8, clear: null });
    render();
  });
  return make(
    "li",
    {},
    field("Name", name),
    field("Measure", measure),
    field("Zone", zoneChoice(trigger)),
    ...levelFields(trigger),
    make("p", { className: "now", role: "status" }),
    remover(`Remove the trigger ${trigger.name}`, () => remove(draft.triggers, trigger)),
  );
}

// Returns a slider and a number for the same level, under the slider where the reading is now, and the other level.
function levelFields(trigger) {
  const limits = trigger.measure === "metres" ? METRES : NEARNESS;
  const slider = make("input", { type: "range", ...limits, value: trigger.near });
  const number = make("input", { type: "number", min: 0.01, max: 200, step: "any", value: trigger.near });
  const clear = make("input", { type: "number", min: 0.01, max: 200, step: "any", value: trigger.clear ?? "", placeholder: "a tenth beyond" });
  const take = (from, to) => () => {
    trigger.near = numberIn(from);
    if (trigger.near != null) to.value = from.value;
    changed();
  };
  slider.addEventListener("input", take(slider, number));
  number.addEventListener("input", take(number, slider));
  clear.addEventListener("input", () => {
    trigger.clear = numberIn(clear);
    changed();
  });
  const words = trigger.measure === "metres" ? "Fires when nearer than, in metres" : "Fires when nearer than, in nearness";
  slider.setAttribute("aria-label", `${words}: slider`);
  const track = make("div", { className: "track" }, slider, make("span", { className: "mark", hidden: true }));
  return [make("div", { className: "level" }, field(words, number), track), field("Clears at", clear)];
}

function pointForm(point, i) {
  const input = make("input", { type: "number", min: 0.1, max: 200, step: "any", value: point.metres ?? "" });
  input.addEventListener("input", () => {
    point.metres = numberIn(input);
    changed();
  });
  const where = make("span", { className: "badge", textContent: i + 1, aria: { hidden: true } });
  const gone = remover(`Remove place ${i + 1}`, () => remove(draft.calibration.points, point));
  return make("li", {}, where, field(`Metres to place ${i + 1}`, input), gone, make("p", { className: "now soft" }));
}

function floorForm() {
  const { floor } = draft.calibration;
  if (settings.horizontal_fov_deg == null) {
    return [make("p", { className: "soft", textContent: "Needs the lens’s field of view: scene.horizontal_fov_deg in the configuration’s file." })];
  }
  if (!floor) {
    const add = async () => {
      draft.calibration.floor = { height_metres: 2, tilt_deg: 20, polygon: FLOOR };
      render();
      shapes.select("floor");
    };
    return [make("button", { textContent: "Use the floor", onclick: add })];
  }
  const number = (words, key, limits) => {
    const input = make("input", { type: "number", step: "any", value: floor[key], ...limits });
    input.addEventListener("input", () => {
      floor[key] = numberIn(input);
      changed();
    });
    return field(words, input);
  };
  const drop = () => {
    draft.calibration.floor = null;
    render();
  };
  return [
    number("Height of the camera, in metres", "height_metres", { min: 0.1, max: 50 }),
    number("Tilt downwards, in degrees", "tilt_deg", { min: -30, max: 89 }),
    make("div", { className: "row" },
      make("button", { className: "quiet", textContent: "Move its corners", onclick: () => shapes.select("floor") }),
      remover("Do without the floor", drop)),
  ];
}
