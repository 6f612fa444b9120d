// Follows the daemon: numbers come as events, as long as the page is seen.

const RETRY_MS = 2_000;
const SILENT_MS = 8_000; // how the daemon fares comes every two seconds

// Calls `take[kind](values)` for each event, and `take.gone(words)` when there is no connection.
export function follow(take) {
  let source = null;
  let timer;

  function open() {
    close();
    if (document.hidden) return;
    source = new EventSource("/api/events");
    for (const kind of ["info", "health", "state"]) {
      source.addEventListener(kind, (event) => {
        watch();
        take[kind](JSON.parse(event.data));
      });
    }
    source.onerror = lost;
    watch();
  }

  function watch() {
    clearTimeout(timer);
    timer = setTimeout(lost, SILENT_MS);
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  async function lost() {
    close();
    timer = setTimeout(open, RETRY_MS);
    take.gone(await why());
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  open();
}

// An EventSource keeps to itself why it was refused.
async function why() {
  try {
    const response = await fetch("/api/health", { cache: "no-store", signal: AbortSignal.timeout(RETRY_MS) });
    if (response.status === 401) location.assign("/login");
    return response.ok ? "Too many are watching; trying again." : "The daemon refuses to answer; trying again.";
  } catch {
    return "No answer from the daemon; trying again.";
  }
}
