// How warnings of past weeks ended, against what was promised; and what acting on them brought.

import { ask } from "./api.js";
import { shareBar, weeksChart } from "./chart.js";
import { count, day, h, money, points, share, span, table, tiles } from "./dom.js";

export const title = "How good warnings were";

const sum = (weeks, name) => weeks.reduce((total, one) => total + one[name], 0);

export async function show(room, signal) {
  const told = await ask("outcomes", { signal });
  room.append(h("h1", {}, title));
  if (!told.weeks.length) {
    room.append(h("div", { class: "empty" }, h("h2", {}, "No warning has been sent yet"),
      h("p", {}, `The first come after a third of the horizon of ${told.horizon_days} days at the earliest, and how they ended is known a horizon later. What to expect is told by a backtest on your own orders:`),
      h("pre", {}, h("code", {}, "python -m model backtest orders.csv --model MODEL"))));
    return;
  }
  const lost = sum(told.weeks, "lost"), kept = sum(told.weeks, "kept"), recovered = sum(told.weeks, "recovered");
  const ended = lost + kept + recovered;
  const { strict_precision: strict, strict_interval: range } = told;
  room.append(
    h("p", {}, `Warnings since the week of ${told.weeks[0].week}, as of ${day(told.as_of)}. A warning is strictly right where no order came for ${told.horizon_days} days.`,
      told.complete ? "" : " Open ones are still being counted."),
    tiles([
      ["Strictly right", share(strict), ended ? `95 % interval ${span(range)}` : "none has ended yet"],
      ["Promised", share(told.promised_precision), "by training, on its own log"],
      ["Warnings", count(sum(told.weeks, "warnings")), `${count(ended)} ended, ${count(sum(told.weeks, "open"))} open`],
      ["Kept, recovered", `${count(kept)}, ${count(recovered)}`, "ordered again in time"],
      ["Lost", count(lost), `${money(sum(told.weeks, "value_lost"), told.currency)} of reference CLV`],
    ]));
  if (strict !== null) {
    const verdict = told.promised_precision === null ? "Training promised nothing: there were too few past churners to learn from."
      : range[0] > told.promised_precision ? "Better than promised, by more than chance."
        : range[1] < told.promised_precision ? "Worse than promised, by more than chance: look at monitoring, or retrain."
          : "What was promised lies within the interval: the difference may be chance.";
    room.append(h("p", {}, verdict), shareBar(strict, range, told.promised_precision, `Strictly right ${share(strict)}, 95 % interval ${span(range)}, promised ${share(told.promised_precision)}`),
      h("p", { class: "soft" }, `Blue: strictly right; grey: its interval${told.promised_precision === null ? "" : "; red: promised"}.`));
  }
  room.append(h("h2", {}, "By week"), byWeek(told), h("h2", {}, "What acting on them brought"), acting(told));
}

function byWeek(told) {
  const weeks = new Map();
  for (const one of told.weeks) {
    const all = weeks.get(one.week) ?? { week: one.week, warnings: 0, kept: 0, recovered: 0, lost: 0, open: 0 };
    for (const name of ["warnings", "kept", "recovered", "lost", "open"]) all[name] += one[name];
    weeks.set(one.week, all);
  }
  return weeksChart([...weeks.values()], `Warnings of the last ${Math.min(weeks.size, 26)} weeks by how they ended`,
    table("Warnings by the week in which they were sent", [
      ["Week of", (one) => one.week], ["Customers", (one) => (one.holdout ? "held out" : "to be acted on")],
      ["Warned", (one) => count(one.warnings), true], ["Kept", (one) => count(one.kept), true], ["Recovered", (one) => count(one.recovered), true],
      ["Lost", (one) => count(one.lost), true], ["Open", (one) => count(one.open), true],
      ["Strictly right", (one) => share(one.strict_precision), true], ["95 % interval", (one) => span(one.strict_interval), true],
    ], told.weeks.slice().reverse()));
}

function acting(told) {
  const { treated, held_out: heldOut, difference, too_few: tooFew, value_per_100_warnings: worth, weeks_until_told: weeks } = told.acting;
  if (!heldOut.ended || !treated.ended) return h("div", { class: "empty" }, h("p", {}, heldOut.ended
    ? "All customers are held out, so there is nobody to compare them with."
    : "Nobody is held out, or no such warning has ended yet, so what acting brought cannot be told. Hold a tenth of the customers out and do not act on their warnings:"),
  h("pre", {}, h("code", {}, "CLV_HOLDOUT_SHARE=0.1")));
  const later = weeks === null ? "" : ` If it stays as it is, it can be told from chance in about ${count(weeks)} weeks.`;
  const chance = difference && difference.low <= 0 && difference.high >= 0;
  const verdict = !difference ? `Too few to say: ${tooFew}.`
    : chance ? "The interval holds 0: so far the difference may be chance."
      : difference.low > 0 ? "More treated customers came back, by more than chance."
        : "Fewer treated customers came back, by more than chance: look at what is done with the warnings.";
  const size = difference ? ` Difference ${points(difference.value)}, 95 % interval ${points(difference.low)} to ${points(difference.high)}; worth ${money(worth, told.currency)} of reference CLV for each 100 warnings.` : "";
  return h("div", {}, table("Warnings that have ended, of treated and held-out customers", [
    ["Customers", (one) => one.name], ["Ended", (one) => count(one.ended), true], ["Ordered again in time", (one) => count(one.returned), true],
    ["Share", (one) => share(one.share_returned), true], ["95 % interval", (one) => span(one.interval), true],
  ], [{ name: "to be acted on", ...treated }, { name: "held out", ...heldOut }], { cards: true }),
  h("p", {}, `${verdict}${size}${later}`),
  h("p", { class: "soft" }, "Each warning counts here. ", h("code", {}, "python -m streamer outcomes"), " counts each customer once and measures their revenue."));
}
