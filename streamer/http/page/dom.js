// Elements and numbers. Whatever comes from the shop becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export const h = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
export const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}\u00a0%`);
export const money = (value, currency) =>
  value === null || value === undefined ? "–" : `${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).replace("-", "−")}${currency === "XXX" ? "" : ` ${currency}`}`;

// Days are the shop's; what has no time is one already.
const formats = new Map();
let zone = "UTC";
export const setZone = (name) => { zone = name; };
const format = () => {
  if (!formats.has(zone)) formats.set(zone, new Intl.DateTimeFormat("sv", { timeZone: zone, dateStyle: "short" }));
  return formats.get(zone);
};
export const day = (instant) => (!instant ? "–" : instant.length === 10 ? instant : format().format(Date.parse(instant)));
export const minute = (instant) => (instant ? `${instant.slice(0, 10)} ${instant.slice(11, 16)} UTC` : "–");
export const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)} points`;
export const span = (range) => (range ? `${share(range[0])} to ${share(range[1])}` : "–");

export function tiles(pairs) {
  return h("dl", { class: "tiles" }, pairs.map(([name, value, more]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null))));
}

// `columns`: [heading, what a row has there, whether it is a number].
export function table(caption, columns, rows, options = {}) {
  const role = options.cards ? (name) => ({ role: name }) : () => ({});
  return h("table", { class: options.cards ? "cards" : null, ...role("table") },
    h("caption", {}, caption),
    h("thead", role("rowgroup"), h("tr", role("row"), columns.map(([name, , number]) =>
      h("th", { scope: "col", class: number ? "n" : null, ...role("columnheader") }, name)))),
    h("tbody", role("rowgroup"), rows.map((row) => h("tr", role("row"), columns.map(([name, cell, number]) =>
      h("td", { "data-label": name, class: number ? "n" : null, ...role("cell") }, cell(row)))))));
}

// A table that may be wider than the screen: reached and scrolled by keyboard.
export const wide = (label, node) => h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, node);

export const customerLink = (id) => h("a", { href: `#customer/${encodeURIComponent(id)}` }, id);

export const tell = (text) => { document.getElementById("told").textContent = text; };
