// Small helpers for the page.

export const $ = (id) => document.getElementById(id);

// Touches the page only where something changed, so that nothing is announced twice.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function fixed(value, digits, unit = "") {
  return value == null ? "–" : value.toFixed(digits) + unit;
}

export function percent(value) {
  return value == null ? "–" : `${Math.round(value * 100)} %`;
}

// Makes an element; `values` are its properties, those in `data` its data-… attributes, the rest goes into it.
export function make(tag, { data = {}, aria = {}, ...values } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), values);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...inside);
  return element;
}

export function svg(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Puts an element on the picture, x and y in fractions of it.
export function put(element, x, y) {
  element.style.setProperty("--x", x);
  element.style.setProperty("--y", y);
}

// Asks the daemon; an error carries its reason in words. Who is not logged in any more is led there.
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(40_000), ...options });
  } catch {
    throw new Error("The daemon does not answer.");
  }
  if (response.ok) return response;
  if (response.status === 401) location.assign("/login");
  const text = await response.text();
  let reason = response.statusText;
  try {
    reason = JSON.parse(text).reason;
  } catch {
    // not of the daemon's making
  }
  throw Object.assign(new Error(reason), { status: response.status });
}

// Has the daemon obey a command; one that was started since the page was loaded wants another proof, and gets it.
export async function change(command, values = {}) {
  try {
    return await post(command, values);
  } catch (error) {
    if (error.status !== 403) throw error;
    document.body.dataset.proof = (await (await ask("/api/setup")).json()).proof;
    return post(command, values);
  }
}

async function post(command, values) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": document.body.dataset.proof };
  const response = await ask(`/api/setup/${command}`, { method: "POST", headers, body: JSON.stringify(values) });
  return response.json();
}
