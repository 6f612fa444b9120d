// Draws on the live picture, with mouse, finger or keys: polygons whose corners can be moved, and places.

import { $, make, put, svg, write } from "./dom.js";

const STEP = 0.01; // of an arrow key, in fractions of the picture
const LARGE_STEP = 0.05; // with shift
const CLOSE_PX = 18; // to the first corner: the polygon is finished
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let shapes = []; // { id, kind, label, polygon }; the polygon is replaced when it changes
let places = []; // { x, y }
let selected = null;
let drawing = null; // { kind, corners, resolve }, kind "polygon" or "place"
let cursor = { x: 0.5, y: 0.5 };
let isMoved = false; // by keys, since the last corner was set
let onChange = () => {};
let onDraw = () => {};
let lines; // the svg
let layer; // handles and names

// Calls `changed` when a shape or place has been changed, `drawn` when something that is being drawn has.
export function start(changed, drawn) {
  onChange = changed;
  onDraw = drawn;
  const canvas = $("canvas");
  lines = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  layer = make("div", { className: "handles" });
  canvas.append(lines, layer);
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("click", (event) => drawing && set(...at(event)));
  canvas.addEventListener("pointermove", (event) => drawing && moveCursor(...at(event)));
  canvas.addEventListener("keydown", type);
  $("finish").addEventListener("click", finish);
  $("take-back").addEventListener("click", takeBack);
  $("cancel").addEventListener("click", () => end(null));
}

export function show(newShapes, newPlaces) {
  shapes = newShapes;
  places = newPlaces;
  if (!shapes.some((shape) => shape.id === selected)) selected = null;
  render();
}

export function select(id) {
  selected = id;
  render();
}

// Lets somebody draw a polygon; returns it, or null when it is cancelled.
export function polygon(words) {
  return begin("polygon", `${words}: click its corners, then the first one again or Finish. With keys: arrows move the cross, Enter sets a corner, Enter again finishes.`);
}

// Lets somebody click a place; returns [x, y], or null.
export function place(words) {
  return begin("place", `${words}: click it. With keys: arrows move the cross, Enter sets it.`);
}

export function cancel() {
  if (drawing) end(null);
}

// Returns whether corners have been set that belong to no shape yet.
export function isOpen() {
  return Boolean(drawing?.corners.length);
}

// Ends what is being drawn, and waits until it has been taken: nothing of it is lost. Returns false where it has too few
// corners for that: then it stays open.
export async function settle() {
  if (isOpen() && !finish()) return false;
  cancel();
  await new Promise((taken) => setTimeout(taken));
  return true;
}

async function begin(kind, hint) {
  if (!(await settle())) return null;
  selected = null;
  isMoved = false;
  return new Promise((resolve) => {
    drawing = { kind, corners: [], resolve };
    write($("hint"), hint);
    $("hint").hidden = false;
    $("drawing").hidden = false;
    $("finish").hidden = $("take-back").hidden = kind === "place";
    $("stage").scrollIntoView({ block: "nearest" });
    $("canvas").focus({ preventScroll: true });
    drawn();
  });
}

function drawn() {
  render();
  onDraw();
}

function end(result) {
  const { resolve } = drawing;
  drawing = null;
  $("hint").hidden = $("drawing").hidden = true;
  drawn();
  resolve(result);
}

// Returns whether the polygon is one.
function finish() {
  const isEnough = drawing.corners.length >= 3;
  if (isEnough) end(drawing.corners);
  else write($("hint"), "A polygon needs three corners at least.");
  return isEnough;
}

function takeBack() {
  drawing.corners.pop();
  drawn();
}

function at(event) {
  const box = $("canvas").getBoundingClientRect();
  return [clip((event.clientX - box.left) / box.width), clip((event.clientY - box.top) / box.height)];
}

function clip(value) {
  return Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
}

function set(x, y) {
  if (drawing.kind === "place") return end([x, y]);
  const box = $("canvas").getBoundingClientRect();
  const [first] = drawing.corners;
  const isClose = first && Math.hypot((x - first[0]) * box.width, (y - first[1]) * box.height) < CLOSE_PX;
  if (isClose && drawing.corners.length >= 3) return finish();
  drawing.corners.push([x, y]);
  isMoved = false;
  write($("hint"), `${drawing.corners.length} corners${drawing.corners.length < 3 ? "" : "; Enter or Finish makes them a shape"}`);
  drawn();
}

function moveCursor(x, y) {
  cursor = { x: clip(x), y: clip(y) };
  render();
}

function type(event) {
  if (!drawing) return;
  const [dx, dy] = KEYS[event.key] ?? [0, 0];
  const step = event.shiftKey ? LARGE_STEP : STEP;
  if (dx || dy) {
    isMoved = true;
    moveCursor(cursor.x + dx * step, cursor.y + dy * step);
  } else if (event.key === "Enter" && isOpen() && !isMoved) finish();
  else if (event.key === "Enter" || event.key === " ") set(cursor.x, cursor.y);
  else if (event.key === "Backspace" && drawing.kind === "polygon") takeBack();
  else if (event.key === "Escape") end(null);
  else return;
  event.preventDefault();
}

// A press takes hold of a handle or of a whole shape, or selects what lies there. While something is drawn the click
// counts: it comes last, so that what moves under the finger after the last corner is not clicked too.
function press(event) {
  if (event.button !== 0 || drawing) return;
  const [x, y] = at(event);
  const handle = event.target.closest("button");
  if (handle) return hold(event, handle.drag);
  const shape = [...shapes].reverse().find((each) => contains(each.polygon, x, y));
  selected = shape?.id ?? null;
  render();
  if (shape) hold(event, moving(shape, shape.polygon, x, y));
}

// Calls `drag` with every place of the pointer until it is let go.
function hold(event, drag) {
  const canvas = $("canvas");
  canvas.setPointerCapture(event.pointerId);
  const move = (next) => {
    drag(...at(next));
    render();
  };
  const stop = () => {
    canvas.removeEventListener("pointermove", move);
    canvas.removeEventListener("pointerup", stop);
    canvas.removeEventListener("pointercancel", stop);
    onChange();
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
}

function moving(shape, polygon, fromX, fromY) {
  const room = (axis) => [-Math.min(...polygon.map((c) => c[axis])), 1 - Math.max(...polygon.map((c) => c[axis]))];
  const within = (value, [least, most]) => Math.min(most, Math.max(least, value));
  return (x, y) => {
    const dx = within(x - fromX, room(0));
    const dy = within(y - fromY, room(1));
    shape.polygon = polygon.map(([cx, cy]) => [clip(cx + dx), clip(cy + dy)]);
  };
}

function contains(polygon, x, y) {
  let inside = false;
  polygon.forEach(([x1, y1], i) => {
    const [x0, y0] = polygon.at(i - 1);
    if (y1 > y !== y0 > y && x < ((x0 - x1) * (y - y1)) / (y0 - y1) + x1) inside = !inside;
  });
  return inside;
}

// --- what is seen ---------------------------------------------------------------------------------------------------

function render() {
  const shape = shapes.find((each) => each.id === selected);
  lines.replaceChildren(
    ...shapes.map((each) => outline(each.polygon, each.kind, each.id === selected)),
    ...(drawing?.corners.length ? [svg("polyline", { points: joined([...drawing.corners, [cursor.x, cursor.y]]), class: "open" })] : []),
  );
  const wanted = [
    ...shapes.map((each) => ({ tag: "span", key: `name-${each.id}`, kind: `name ${each.kind}`, text: each.label, place: corner(each.polygon) })),
    ...places.map(placeHandle),
    ...(shape ? shape.polygon.flatMap((each, i) => [cornerHandle(shape, i), middleHandle(shape, i)]) : []),
    ...(drawing?.corners ?? []).map((each, i) => ({ tag: "span", key: `set-${i}`, kind: "dot", place: each })),
    ...(drawing ? [{ tag: "span", key: "cross", kind: "cross", place: [cursor.x, cursor.y] }] : []),
  ];
  arrange(wanted);
}

// Keeps the elements that stay, since one of them may have the focus or be held.
function arrange(wanted) {
  const known = new Map([...layer.children].map((element) => [element.dataset.key, element]));
  wanted.forEach(({ tag, key, kind, text = "", label, place: [x, y], drag, keys }) => {
    const element = known.get(key) ?? make(tag, { data: { key } });
    known.delete(key);
    if (!element.parentNode) layer.append(element);
    if (element.className !== kind) element.className = kind;
    write(element, text);
    if (label) element.setAttribute("aria-label", label);
    element.drag = drag;
    element.onkeydown = keys ?? null;
    put(element, x, y);
  });
  for (const element of known.values()) element.remove();
}

function outline(corners, kind, isSelected) {
  return svg("polygon", { points: joined(corners), class: isSelected ? `${kind} selected` : kind });
}

function joined(corners) {
  return corners.map((each) => each.join(",")).join(" ");
}

function corner(corners) {
  return corners.reduce((best, each) => (each[0] + each[1] < best[0] + best[1] ? each : best));
}

function told([x, y]) {
  return `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;
}

function cornerHandle(shape, i) {
  const put = (x, y) => (shape.polygon = shape.polygon.map((each, j) => (j === i ? [clip(x), clip(y)] : each)));
  const [x, y] = shape.polygon[i];
  return {
    tag: "button",
    key: `corner-${shape.id}-${i}`,
    kind: "corner",
    label: `${shape.label}, corner ${i + 1} of ${shape.polygon.length}: ${told(shape.polygon[i])}. Arrows move it, Delete removes it, + adds one.`,
    place: shape.polygon[i],
    drag: put,
    keys: (event) => {
      if (event.key === "Delete" && shape.polygon.length > 3) shape.polygon = shape.polygon.filter((_, j) => j !== i);
      else if (event.key === "+") insert(shape, i, middle(shape, i));
      else if (!nudge(event, x, y, put)) return;
      event.preventDefault();
      render();
      onChange();
    },
  };
}

function nudge(event, x, y, put) {
  const [dx, dy] = KEYS[event.key] ?? [0, 0];
  const step = event.shiftKey ? LARGE_STEP : STEP;
  if (dx || dy) put(x + dx * step, y + dy * step);
  return dx || dy;
}

function middle(shape, i) {
  const [x0, y0] = shape.polygon[i];
  const [x1, y1] = shape.polygon[(i + 1) % shape.polygon.length];
  return [(x0 + x1) / 2, (y0 + y1) / 2];
}

function insert(shape, i, place) {
  shape.polygon = shape.polygon.toSpliced(i + 1, 0, place.map(clip));
}

// A mark between two corners: dragged, it becomes one.
function middleHandle(shape, i) {
  let inserted = false;
  return {
    tag: "button",
    key: `middle-${shape.id}-${i}`,
    kind: "middle",
    label: `${shape.label}: add a corner after corner ${i + 1}`,
    place: middle(shape, i),
    drag: (x, y) => {
      if (!inserted) insert(shape, i, [x, y]);
      inserted = true;
      shape.polygon = shape.polygon.map((each, j) => (j === i + 1 ? [x, y] : each));
    },
    keys: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      insert(shape, i, middle(shape, i));
      event.preventDefault();
      render();
      onChange();
    },
  };
}

function placeHandle(each, i) {
  const put = (x, y) => Object.assign(each, { x: clip(x), y: clip(y) });
  return {
    tag: "button",
    key: `place-${i}`,
    kind: "place",
    text: String(i + 1),
    label: `Place ${i + 1}: ${told([each.x, each.y])}. Arrows move it.`,
    place: [each.x, each.y],
    drag: put,
    keys: (event) => {
      if (!nudge(event, each.x, each.y, put)) return;
      event.preventDefault();
      render();
      onChange();
    },
  };
}
