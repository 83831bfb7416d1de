// One customer: orders, CLV over time, the last warning, their rhythm; and to forget them.

import { ask, customerPath } from "./api.js";
import { clvChart, strip } from "./chart.js";
import { count, day, h, money, share, table, tell, tiles, wide } from "./dom.js";

export const title = "One customer";

const ENDS = { open: "still open", kept: "kept: ordered before the silence was longer than the horizon", recovered: "recovered: ordered within a horizon of the warning", lost: "lost: no order within a horizon of the warning" };

export async function show(room, signal, id) {
  if (!id) {
    room.append(h("h1", {}, title), h("p", { class: "empty" }, "Type a customer's id in the field above, or choose one under “At risk now”."));
    return;
  }
  document.title = `${id} – clv-streamer`;
  let now, past;
  try {
    past = await ask(`${customerPath(id)}/history`, { signal });
    now = await ask(`${customerPath(id)}?as_of=${past.as_of}`, { signal });
  } catch (error) {
    if (error.status !== 404) throw error;
    room.append(h("h1", {}, id), h("div", { class: "empty" }, h("p", {}, "No order of this customer has been applied. Ids are told apart by every letter, upper and lower case; check it, or look under “At risk now” for a part of it.")));
    return;
  }
  const currency = now.currency;
  const forget = h("button", { type: "button", class: "danger", onclick: () => confirm(id) }, "Forget this customer …");
  room.append(
    h("h1", {}, id),
    past.notice ? h("p", {}, h("span", { class: `tag ${past.notice.severity}` }, `At risk, ${past.notice.severity}. `), past.notice.summary) : h("p", {}, now.open_warning ? "Warned of." : "No open warning."),
    tiles([
      ["CLV", money(now.clv, currency), `over the next ${now.horizon_days} days`],
      ["Reference CLV", money(past.reference_clv, currency), "the highest at an order of late"],
      ["How sure they leave", share(now.churn_probability), `no order in ${now.horizon_days} days`],
      ["Orders", count(now.orders), `${money(now.net_revenue, currency)} net`],
      ["Last order", day(now.last_order_at), `${count(now.days_since_last_order)} days before ${day(past.as_of)}`],
      ["Segment", now.segment, past.notice?.holdout ? "held out: not to be acted on" : null],
    ]),
    h("h2", {}, "Their own rhythm"), h("p", {}, past.rhythm.sentence),
    h("h2", {}, "Orders"), strip(past), h("h2", {}, "CLV over time"), clvChart(past),
    h("h2", {}, "The last warning"), warned(past, currency),
    h("h2", {}, "The numbers behind it"), numbers(now, past, currency),
    h("h2", {}, "Forget"), h("p", {}, "Everything that is kept of this customer can be erased."), forget);
}

function warned(past, currency) {
  const one = past.warning;
  if (!one) return h("p", {}, "None so far.");
  const answered = one.answered_on ? ` The next order came on ${one.answered_on}.` : one.outcome === "open" ? ` Its horizon ends on ${day(one.horizon_ends_at)}.` : "";
  return h("p", {}, `Fired on ${day(one.as_of)} by ${one.trigger === "silence" ? "silence" : `a ${one.trigger}`}, when the CLV had fallen from ${money(one.reference_clv, currency)} to ${money(one.clv, currency)}. It is ${ENDS[one.outcome]}.${answered}`);
}

function numbers(now, past, currency) {
  const parts = now.contributions
    ? [["typical customer", now.baseline], ...now.contributions.map((one) => [one.group, one.amount]), ["CLV", now.clv]]
    : [];
  const found = [];
  if (parts.length) found.push(wide("What makes the CLV", table("What makes this CLV, compared with the model's typical customer", [
    ["Part", (one) => one[0]], ["Amount", (one) => money(one[1], currency), true],
  ], parts)));
  if (past.notice) found.push(wide("Reasons of the warning", table("What the fall of the CLV came from, when the warning fired", [
    ["Reason", (one) => one.factor], ["Share", (one) => share(one.share), true],
  ], past.notice.reasons)));
  found.push(wide("Windows", table("Orders and revenue before now", [
    ["Last days", (one) => count(one.days), true], ["Orders", (one) => count(one.orders), true], ["Net revenue", (one) => money(one.net_revenue, currency), true],
  ], now.windows)));
  return h("div", {}, found);
}

function confirm(id) {
  const dialog = document.getElementById("ask");
  const wrong = h("p", { role: "alert" });
  const yes = h("button", { type: "button", class: "danger", onclick: () => erase(id, dialog, wrong, yes) }, "Forget for good");
  dialog.replaceChildren(
    h("h2", { id: "ask-title" }, "Forget this customer?"),
    h("p", {}, h("strong", {}, id)),
    h("p", {}, "This deletes their state, scores, open warning and what is kept of past ones, and makes all their orders from before now ignored, also when they are sent again. It cannot be undone. Records in Kafka stay until the topics' retention ends."),
    wrong,
    h("div", { class: "pager" }, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Keep"), yes));
  dialog.showModal();
}

async function erase(id, dialog, wrong, button) {
  button.disabled = true;
  try {
    await ask(customerPath(id), { method: "DELETE" });
    dialog.close();
    const main = document.getElementById("main");
    main.replaceChildren(h("h1", {}, "Forgotten"), h("p", {}, "The log says so now; workers erase the customer when they read it, in a moment as a rule. "), h("p", {}, h("a", { href: "#risk" }, "Back to who is at risk")));
    main.focus();
    tell("The customer is forgotten");
  } catch (error) {
    wrong.textContent = error.message;
    button.disabled = false;
  }
}
