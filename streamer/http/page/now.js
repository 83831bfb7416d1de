// How the stream stands, and warnings as they arrive.

import { ask } from "./api.js";
import { count, customerLink, h, minute, money, table, tell, tiles, wide } from "./dom.js";

export const title = "Now";

const EVERY_MS = 2000;
const SHOWN = 50;
const WORDS = { warning: "Warning", recovered: "Ordered again", value_drop: "Value drop" };

export async function show(room, signal) {
  const figures = h("div");
  const list = h("ul", { class: "news" });
  const nothing = h("p", { class: "soft" }, "Nothing has arrived since this page was opened. It shows what comes as it comes.");
  const line = h("p", { class: "soft" }, "Connecting …");
  room.append(h("h1", {}, title), figures, h("h2", {}, "Warnings as they arrive"), line, nothing, list);
  let last = null;

  async function look() {
    const status = await ask("status", { signal });
    const at = performance.now();
    const rate = last && at > last.at ? Math.max(0, (1000 * (status.applied - last.applied)) / (at - last.at)) : null;
    last = { at, applied: status.applied };
    figures.replaceChildren(...drawn(status, rate));
  }

  await look();
  const timer = setInterval(() => look().catch((error) => {
    if (!signal.aborted) figures.replaceChildren(h("p", { class: "wrong", role: "alert" }, error.message));
  }), EVERY_MS);
  const source = new EventSource("warnings/stream");
  source.addEventListener("begin", () => { line.textContent = "Connected."; });
  source.addEventListener("error", () => { line.textContent = "Connection lost; it is made again, and nothing is missed."; });
  source.addEventListener("gap", (event) => { line.textContent = `${count(JSON.parse(event.data).missed)} messages came while this page was away for too long; see “At risk now”.`; });
  source.addEventListener("dropped", () => { line.textContent = "This page read too slowly and was disconnected; it connects again."; });
  for (const kind of Object.keys(WORDS)) source.addEventListener(kind, (event) => {
    const one = JSON.parse(event.data);
    nothing.hidden = true;
    list.prepend(h("li", {}, h("strong", {}, `${WORDS[kind]}: `), customerLink(one.user_id), ` ${one.summary} `,
      kind === "warning" ? h("span", { class: `tag ${one.severity}` }, `${one.severity}, ${money(one.expected_loss, one.currency)} at risk`) : null));
    while (list.children.length > SHOWN) list.lastChild.remove();
    tell(`${WORDS[kind]}: ${one.user_id}`);
  });
  signal.addEventListener("abort", () => { clearInterval(timer); source.close(); });
}

function drawn(status, rate) {
  const behind = status.event_time ? (Date.parse(status.clock) - Date.parse(status.event_time)) / 1000 : null;
  const known = status.partitions.filter((one) => one.lag !== null).length;
  const found = [tiles([
    ["Orders a second", rate === null ? "…" : count(Math.round(rate)), `${count(status.applied)} records in all`],
    ["Waiting in the log", count(status.lag), status.lag === null ? "another worker has the partitions" : `in ${known} of ${status.partitions.length} partitions, this worker's`],
    ["Event time", minute(status.event_time), behind === null ? "no order yet" : `${ago(behind)} the clock, ${minute(status.clock)}`],
    ["Open warnings", count(status.open_warnings), `${money(status.expected_loss, status.currency)} expected loss`],
    ["Value at risk", money(status.value_at_risk, status.currency), "what CLVs have fallen by"],
    ["Model", status.model_version, `horizon ${status.horizon_days} days`],
  ])];
  if (!status.applied) {
    found.push(h("div", { class: "empty" }, h("p", {}, "No order has been applied yet. Send orders to the orders topic, for example from a file:"),
      h("pre", {}, h("code", {}, "python -m streamer produce orders.csv"))));
  }
  found.push(h("h2", {}, "Dead letters"));
  found.push(status.dead_letters.length
    ? wide("Dead letters by reason", table("Unusable records by reason; the newest stands in its topic's partition at the offset", [
      ["Reason", (one) => h("code", {}, one.reason)],
      ["Records", (one) => count(one.count), true],
      ["Newest", (one) => `partition ${one.partition}, offset ${one.offset}`],
    ], status.dead_letters))
    : h("p", {}, "None: every record could be used."));
  return found;
}

function ago(seconds) {
  const size = Math.abs(seconds);
  const text = size < 90 ? `${Math.round(size)} s` : size < 5400 ? `${Math.round(size / 60)} min` : size < 172800 ? `${Math.round(size / 3600)} h` : `${count(Math.round(size / 86400))} days`;
  return seconds < 0 ? `${text} ahead of` : `${text} behind`;
}
