// A picture of one's own: sent, and shown beside its depth.

import { $, ask, fixed, make, write } from "./dom.js";

const FORMATS = ["jpg", "npy", "json"];
const MOST_BYTES = 1_900_000; // of the two megabytes that are allowed by default
const MOST_PX = 1_920; // as large as what comes back
const DRAWN_ANEW = [413, 422]; // too large, or of a form that is not taken, such as with a film behind the picture

let picture = null; // what was sent
let map = null; // { width, height, values, low, high }: the network's own output
let asked = 0;

export function start() {
  $("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) predict(file, file.name);
    event.target.value = "";
  });
  $("example").addEventListener("click", async () => {
    try {
      predict(await (await ask("/example.jpg")).blob(), "the example");
    } catch (error) {
      fail(error);
    }
  });
  listenToDrops($("drop"));
  $("split").addEventListener("input", split);
  $("compare").addEventListener("pointermove", hover);
  $("compare").addEventListener("pointerleave", () => ($("value").hidden = true));
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => download(button.dataset.format));
  }
}

function listenToDrops(target) {
  for (const kind of ["dragenter", "dragover"]) {
    target.addEventListener(kind, (event) => {
      event.preventDefault();
      target.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) target.addEventListener(kind, () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) predict(file, file.name);
  });
  // A picture that misses would take the page's place.
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
}

async function predict(file, name) {
  const mine = ++asked;
  say(`Working on ${name} …`);
  document.body.dataset.trying = "";
  try {
    const { sent, answers } = await estimated(file);
    if (mine !== asked) return;
    const [jpeg, npy, facts] = answers;
    picture = sent;
    map = read(await npy.arrayBuffer());
    await show(sent, await jpeg.blob(), await facts.json());
    say(`Depth of ${name}. Move the slider to compare; point at a place for its nearness.`);
  } catch (error) {
    if (mine === asked) fail(error);
  } finally {
    if (mine === asked) delete document.body.dataset.trying;
  }
}

// Has the daemon work on a JPEG as it is; on all else, and where it does not take that one, as the browser draws it.
async function estimated(file) {
  let refusal = null;
  if (file.size <= MOST_BYTES && (await isJpeg(file))) {
    try {
      return await inTurn(file);
    } catch (error) {
      if (!DRAWN_ANEW.includes(error.status)) throw error;
      refusal = error;
    }
  }
  return inTurn(await drawn(file, refusal));
}

// One after the other: the first one does the work, and the others find it done.
async function inTurn(sent) {
  const answers = [];
  for (const format of FORMATS) answers.push(await send(sent, format));
  return { sent, answers };
}

async function isJpeg(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return first === 0xff && second === 0xd8; // whatever its name says
}

async function send(data, format) {
  const form = new FormData();
  form.append("image", data, "picture");
  return ask(`/predict?format=${format}`, { method: "POST", body: form });
}

// Returns the picture as a JPEG, upright and on white, so that it is seen here as the network sees it.
async function drawn(file, refusal) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const words = "This is no picture that the browser can read, or it is cut short; take a JPEG, PNG or WebP.";
    throw refusal ?? new Error(words);
  }
  const scale = Math.min(1, MOST_PX / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

async function show(original, depth, facts) {
  await Promise.all([load($("original"), original), load($("depth"), depth)]);
  $("result").hidden = false;
  split();
  const size = `${facts.size.join(" × ")} pixels, seen by the network at ${facts.network_size.join(" × ")}`;
  write($("try-facts"), `${size} with ${facts.weights} in ${fixed(facts.inference_ms, 0, " ms")}.${facts.reason ? ` ${facts.reason}.` : ""}`);
}

function load(image, data) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(data);
  return image.decode();
}

// Reads a NumPy file of float32 (h, w) (numpy.org, "A simple file format for NumPy arrays").
function read(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const [, height, width] = header.match(/\((\d+), (\d+)\)/).map(Number);
  const values = new Float32Array(buffer.slice(10 + length));
  const sorted = values.slice().sort();
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  return { width, height, values, low: at(0.02), high: at(0.98) };
}

function split() {
  const share = Number($("split").value);
  $("original").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("divider").style.left = `${share}%`;
}

function hover(event) {
  const box = $("compare").getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = (event.clientY - box.top) / box.height;
  if (!map || x < 0 || y < 0 || x >= 1 || y >= 1) return;
  const value = map.values[Math.floor(y * map.height) * map.width + Math.floor(x * map.width)];
  const nearness = map.high > map.low ? (value - map.low) / (map.high - map.low) : 0;
  const tag = $("value");
  tag.hidden = false;
  write(tag, `nearness ${fixed(nearness, 2)}`);
  tag.style.left = `${100 * x}%`;
  tag.style.top = `${100 * y}%`;
  tag.classList.toggle("left", x > 0.7);
}

async function download(format) {
  try {
    const response = await send(picture, format);
    const name = response.headers.get("Content-Disposition").match(/filename="(.+)"/)[1];
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    fail(error);
  }
}

function say(words) {
  $("try-state").classList.remove("bad");
  write($("try-state"), words);
}

function fail(error) {
  $("try-state").classList.add("bad");
  write($("try-state"), error.message);
}
