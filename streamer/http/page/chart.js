// Pictures, with the same in words and as a table.

import { count, day, h, money, s, share, table, wide } from "./dom.js";

const DAY_MS = 86400000;
// In pixels as it is shown, so that letters keep their size on a phone.
const width = () => Math.min(Math.max(document.getElementById("main").clientWidth - 32, 280), 1150);
const HALF_DATE = 42;
const time = (text) => Date.parse(text.length === 10 ? `${text}T00:00:00Z` : text);

function scale(from, to, low, high) {
  return (value) => low + ((value - from) / Math.max(to - from, 1e-9)) * (high - low);
}

// Dates on the time axis, as many as fit without touching.
function dates(from, to, y, x, WIDTH) {
  const days = Math.max((to - from) / DAY_MS, 1);
  const step = Math.max(1, Math.ceil(days / Math.min(6, WIDTH / 160))) * DAY_MS;
  const found = [];
  for (let at = to; at >= from; at -= step) found.push(s("text", { x: Math.min(Math.max(x(at), HALF_DATE), WIDTH - HALF_DATE), y, "text-anchor": "middle" }, day(new Date(at).toISOString())));
  return found;
}

// Round numbers from 0 to no more than the most, with a line each: room for them is left of LEFT.
const LEFT = 60;
function levels(most, y, WIDTH) {
  const size = 10 ** Math.floor(Math.log10(most / 2));
  const step = [5, 2, 1].map((one) => one * size).find((one) => most / one >= 2);
  const found = [];
  for (let at = step; at <= most; at += step) found.push(
    s("line", { class: "axis", x1: LEFT, x2: WIDTH - 12, y1: y(at), y2: y(at) }),
    s("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, at >= 1 ? count(at) : at.toPrecision(1)));
  return found;
}

function figure(picture, label, detail) {
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", label);
  picture.classList.add("chart");
  return h("figure", {}, picture, h("details", {}, h("summary", {}, "The same as a table"), wide(label, detail)));
}

export function strip(past) {
  const WIDTH = width();
  if (!past.days.length) return h("p", {}, "None that is remembered by day.");
  const to = time(past.as_of), from = Math.min(time(past.days[0].day), to - 30 * DAY_MS);
  const x = scale(from, to, 12, WIDTH - 12);
  const most = Math.max(...past.days.map((one) => one.gross), 1);
  const marks = past.days.flatMap((one) => [
    one.orders ? s("rect", { class: "order", x: x(time(one.day)) - 1.5, width: 3, y: 70 - 8 - (52 * one.gross) / most, height: 8 + (52 * one.gross) / most }) : null,
    one.refunded ? s("circle", { class: "refund", cx: x(time(one.day)), cy: 78, r: 3 }) : null,
  ]);
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} 104` }, s("line", { class: "axis", x1: 0, x2: WIDTH, y1: 70.5, y2: 70.5 }), marks, dates(from, to, 98, x, WIDTH));
  const days = past.days.filter((one) => one.orders).length;
  return figure(picture, `Orders on ${count(days)} days from ${past.days[0].day} to ${past.days.at(-1).day}; the taller, the more money; dots below are refunds`,
    table("Days with orders or refunds", [
      ["Day", (one) => one.day], ["Orders", (one) => count(one.orders), true],
      ["Gross", (one) => money(one.gross, past.currency), true], ["Refunded", (one) => money(one.refunded, past.currency), true],
    ], past.days.slice().reverse()));
}

export function clvChart(past) {
  const WIDTH = width();
  if (past.clv.length < 2) return h("p", {}, "There is one only: too early to show a course.");
  const from = time(past.clv[0].at), to = time(past.clv.at(-1).at);
  const x = scale(from, to, LEFT, WIDTH - 12);
  const reference = past.warning ? past.warning.reference_clv : past.reference_clv;
  const most = Math.max(...past.clv.map((one) => one.clv), reference ?? 0) * 1.08 || 1;
  const y = scale(0, most, 200, 22);
  const parts = [
    s("line", { class: "axis", x1: 0, x2: WIDTH, y1: 200.5, y2: 200.5 }),
    levels(most, y, WIDTH),
    s("path", { class: "clv", d: past.clv.map((one, n) => `${n ? "L" : "M"}${x(time(one.at)).toFixed(1)} ${y(one.clv).toFixed(1)}`).join("") }),
  ];
  if (reference) parts.push(s("line", { class: "reference", x1: LEFT, x2: WIDTH - 12, y1: y(reference), y2: y(reference) }),
    s("text", { x: LEFT + 2, y: y(reference) - 5 }, `reference ${money(reference, past.currency)}`));
  const fired = past.warning ? time(past.warning.as_of) : null;
  if (fired !== null && fired >= from && fired <= to) {
    const end = x(fired) > WIDTH / 2;
    parts.push(s("line", { class: "warned", x1: x(fired), x2: x(fired), y1: 18, y2: 200 }),
      s("text", { class: "warned", x: x(fired) + (end ? -5 : 5), y: 14, "text-anchor": end ? "end" : "start" }, `warned ${day(past.warning.as_of)}`));
  }
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} 224` }, parts, dates(from, to, 218, x, WIDTH));
  const last = past.clv.at(-1);
  return figure(picture, `CLV by week from ${money(past.clv[0].clv, past.currency)} on ${day(past.clv[0].at)} to ${money(last.clv, past.currency)} on ${day(last.at)}${reference ? `, against a reference of ${money(reference, past.currency)}` : ""}; by today's model, from what was known then`,
    table("CLV by week", [["As of", (one) => day(one.at)], ["CLV", (one) => money(one.clv, past.currency), true]], past.clv.slice().reverse()));
}

const ENDS = ["kept", "recovered", "lost", "open"];

export function weeksChart(weeks, label, detail) {
  const WIDTH = width();
  const shown = weeks.slice(-26);
  const most = Math.max(...shown.map((one) => one.warnings), 1);
  const wideness = (WIDTH - LEFT - 12) / shown.length;
  const parts = [s("line", { class: "axis", x1: 0, x2: WIDTH, y1: 150.5, y2: 150.5 }), levels(most, scale(0, most, 150, 20), WIDTH)];
  shown.forEach((one, n) => {
    let top = 150;
    for (const end of ENDS) {
      const tall = (130 * one[end]) / most;
      top -= tall;
      if (tall) parts.push(s("rect", { class: end, x: LEFT + n * wideness + 1, width: Math.max(Math.min(wideness - 2, 40), 1), y: top, height: tall }));
    }
    const every = Math.ceil(shown.length / Math.max(1, Math.floor(WIDTH / 130)));
    if ((shown.length - 1 - n) % every === 0) parts.push(s("text", { x: Math.min(Math.max(LEFT + (n + 0.5) * wideness, HALF_DATE), WIDTH - HALF_DATE), y: 168, "text-anchor": "middle" }, one.week));
  });
  const key = h("ul", { class: "key" }, ENDS.map((end) => h("li", {}, s("svg", { viewBox: "0 0 8 8", "aria-hidden": "true" }, s("rect", { class: end, width: 8, height: 8 })), end)));
  return h("div", {}, figure(s("svg", { viewBox: `0 0 ${WIDTH} 176` }, parts), label, detail), key);
}

// A share with its interval, and a mark where it was promised.
export function shareBar(value, range, promised, label) {
  const WIDTH = width();
  if (value === null) return null;
  const x = scale(0, 1, 10, WIDTH - 10);
  const parts = [s("line", { class: "axis", x1: 10, x2: WIDTH - 10, y1: 22, y2: 22 })];
  if (range) parts.push(s("rect", { class: "open", x: x(range[0]), width: Math.max(x(range[1]) - x(range[0]), 1), y: 16, height: 12 }));
  parts.push(s("rect", { class: "order", x: x(value) - 2, width: 4, y: 10, height: 24 }));
  if (promised !== null) parts.push(s("line", { class: "warned", x1: x(promised), x2: x(promised), y1: 6, y2: 38 }));
  for (const at of [0, 0.25, 0.5, 0.75, 1]) parts.push(s("text", { x: Math.min(Math.max(x(at), 20), WIDTH - 24), y: 54, "text-anchor": "middle" }, share(at).replace(".0", "")));
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} 60`, role: "img", "aria-label": label, class: "chart" }, parts);
  return picture;
}
