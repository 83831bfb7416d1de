// Customers with an open warning, by expected loss.

import { ask } from "./api.js";
import { count, customerLink, day, h, money, share, table, tell } from "./dom.js";

export const title = "At risk now";

const FILTERS = [
  ["severity", "Severity", ["high", "medium", "low"]],
  ["trigger", "Trigger", ["silence", "order", "refund"]],
  ["segment", "Worth before", ["top", "high", "middle", "low"]],
  ["holdout", "Held out", [["true", "held out"], ["false", "to be acted on"]]],
];
const ROWS = 50;

const days = (from, to) => (from && to ? Math.round((Date.parse(day(to)) - Date.parse(day(from))) / 86400000) : null);

function columns(page) {
  return [
    ["Customer", (one) => customerLink(one.user_id)],
    ["Severity", (one) => h("span", { class: `tag ${one.severity}` }, one.severity)],
    ["Expected loss", (one) => money(one.expected_loss, page.currency), true],
    ["At stake", (one) => money(one.reference_clv, page.currency), true],
    ["How sure", (one) => share(one.churn_probability), true],
    ["Silent since", (one) => h("span", {}, h("span", { class: "when" }, day(one.last_order_at)), " ", h("span", { class: "when" }, `(${count(days(one.last_order_at, page.as_of))} days)`))],
    ["Why it was raised", (one) => h("span", {}, h("span", { class: "when soft" }, `${day(one.as_of)}:`), ` ${one.summary}`)],
  ];
}

export async function show(room, signal) {
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filters" },
    h("label", {}, "Id contains", h("input", { name: "user", type: "search", autocomplete: "off", maxlength: "128" })),
    FILTERS.map(([name, label, options]) => h("label", {}, label, h("select", { name },
      h("option", { value: "" }, "all"),
      options.map((one) => (Array.isArray(one) ? h("option", { value: one[0] }, one[1]) : h("option", { value: one }, one)))))));
  const list = h("div");
  room.append(h("h1", {}, title), form, list);
  let before = [];
  let cursor = "";
  let typed = null;

  const query = () => {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) asked.set(name, value);
    return asked;
  };

  async function load(quiet) {
    const asked = query();
    const file = `warnings.csv?${asked}`;
    asked.set("limit", ROWS);
    if (cursor) asked.set("cursor", cursor);
    const page = await ask(`warnings?${asked}`, { signal });
    const filtered = [...query()].length > 0;
    const first = before.length * ROWS;
    const parts = page.total
      ? [
        h("p", {}, `${count(page.total)} customers, expected loss ${money(page.expected_loss, page.currency)}, as of ${day(page.as_of)}. `,
          h("a", { class: "button", href: file, download: "warnings.csv" }, "Download CSV")),
        table(`Open warnings ${count(first + 1)} to ${count(first + page.warnings.length)} of ${count(page.total)}, the largest expected loss first`,
          columns(page), page.warnings, { cards: true }),
        h("div", { class: "pager" },
          h("button", { type: "button", disabled: before.length === 0, onclick: () => turn(before.pop()) }, "Previous"),
          h("button", { type: "button", disabled: page.next === null, onclick: () => { before.push(cursor); turn(page.next); } }, "Next"),
          h("span", {}, `page ${count(before.length + 1)} of ${count(Math.ceil(page.total / ROWS))}`)),
      ]
      : [empty(filtered, page)];
    if (!page.complete) parts.unshift(h("p", { class: "empty" }, "The list is being made again from the customers' states; some may still be missing."));
    list.replaceChildren(...parts);
    if (!quiet) tell(`${count(page.total)} customers`);
  }

  async function turn(to) {
    cursor = to;
    await guarded();
    list.querySelector("table")?.scrollIntoView({ block: "start" });
  }

  async function guarded() {
    try { await load(false); } catch (error) {
      if (!signal.aborted) list.replaceChildren(h("p", { class: "wrong", role: "alert" }, error.message));
    }
  }

  function changed() { before = []; cursor = ""; guarded(); }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", changed);
  form.elements.user.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(changed, 200); });
  await load(true);
}

function empty(filtered, page) {
  if (filtered) return h("div", { class: "empty" }, h("p", {}, "No open warning fits these filters. Set them to “all” to see everybody."));
  return h("div", { class: "empty" }, h("h2", {}, "Nobody is at risk"),
    h("p", {}, page.as_of
      ? `Orders are known up to ${day(page.as_of)}, and no silence so far calls for a warning. A customer is warned of after a third of the model's horizon at the earliest.`
      : "No order has been applied yet. Send orders to the orders topic, for example from a file:"),
    page.as_of ? null : h("pre", {}, h("code", {}, "python -m streamer produce orders.csv")));
}
