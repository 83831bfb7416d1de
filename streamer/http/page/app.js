// One page, four views; which one stands in the address after #.

import { h, tell } from "./dom.js";
import * as customer from "./customer.js";
import * as now from "./now.js";
import * as quality from "./quality.js";
import * as risk from "./risk.js";

const VIEWS = { risk, now, quality, customer };
const main = document.getElementById("main");
let leaving = null;

function wrong(error, again) {
  const what = error.status === 503 ? "Not ready yet" : "This cannot be shown";
  return h("div", { class: "wrong", role: "alert" }, h("h2", {}, what), h("p", {}, error.message),
    h("button", { type: "button", onclick: again }, "Try again"));
}

async function show(focus) {
  if (location.hash === "#main") return;
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = VIEWS[name] ?? risk;
  if (leaving) leaving.abort();
  const here = new AbortController();
  leaving = here;
  for (const link of document.querySelectorAll("nav a")) {
    if (VIEWS[link.dataset.view] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} – clv-streamer`;
  const room = h("div");
  main.replaceChildren(room);
  main.setAttribute("aria-busy", "true");
  try {
    await view.show(room, here.signal, decoded(rest.join("/")));
  } catch (error) {
    if (error.name === "AbortError" || here.signal.aborted) return;
    room.replaceChildren(h("h1", {}, view.title), wrong(error, () => show(true)));
  }
  if (leaving === here) main.removeAttribute("aria-busy");
  if (focus && leaving === here) { main.focus({ preventScroll: true }); tell(`${view.title} is shown`); }
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

addEventListener("hashchange", () => show(true));
document.getElementById("find").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = `customer/${encodeURIComponent(document.getElementById("find-id").value)}`;
});
show(false);
