// What was drawn for another view than the camera has now, and how it is confirmed.

import { $, change, make, write } from "./dom.js";

let doubts = [];

export function start() {
  $("confirm").addEventListener("click", confirm);
}

export function show(found) {
  if (JSON.stringify(found) === JSON.stringify(doubts)) return;
  doubts = found;
  $("doubts").hidden = !doubts.length;
  $("doubt-list").replaceChildren(...doubts.map((words) => make("li", { textContent: words })));
  write($("doubt-state"), "");
}

// Confirms what stands here, not what may be in doubt by then.
async function confirm() {
  try {
    const { written } = await change("confirm", { doubts });
    if (!written) write($("doubt-state"), "It could not be written: a restart will not know of it; the log says why.");
  } catch (error) {
    write($("doubt-state"), error.message);
  }
}
