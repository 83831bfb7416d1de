// What the worker answers; faults as sentences.

import { setZone } from "./dom.js";

export class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The worker does not answer. It may be starting again; this page keeps trying.");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, (told.errors && told.errors[0].detail) || told.detail || answer.statusText);
  if (told.timezone) setZone(told.timezone);
  return told;
}

export const customerPath = (id) => `customers/${encodeURIComponent(id)}`;
