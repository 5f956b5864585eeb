// The last events: filtered, paused, and one of them whole. Everything here may come from a stranger.

import { arrange, clock, element, write } from "./text.js";
import { showEvent } from "./dialogs.js";

const list = document.getElementById("recent");
const empty = document.getElementById("recent-empty");
const filter = document.getElementById("filter");
const pause = document.getElementById("pause");

let paused = null;
let latest = null;

export function setUpRecent() {
  filter.addEventListener("input", () => latest && showRecent(latest));
  pause.addEventListener("click", togglePause);
}

export function togglePause() {
  paused = paused ? null : new Map(latest?.recent ?? []);
  pause.setAttribute("aria-pressed", String(paused !== null));
  write(pause, paused ? "Go on" : "Pause");
  if (latest) showRecent(latest);
}

export function showRecent(model) {
  latest = model;
  const wanted = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (event) => {
    const text = `${event.queue}/${event.event} ${event.subject ?? ""} ${event.source}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  };
  const events = [...(paused ?? model.recent).values()].filter(matches);
  events.sort((one, other) => other.time - one.time || other.position - one.position);
  empty.hidden = events.length > 0;
  write(empty, wanted.length ? "Nothing of that." : "Nothing yet.");
  arrange(list, events, (event) => `${event.queue}/${event.partition}/${event.position}`, item, () => {});
}

function item(event) {
  const button = element("button", { type: "button", class: "row", "aria-haspopup": "dialog" },
    element("time", { datetime: new Date(event.time).toISOString() }, clock(event.time)),
    element("span", { class: "address" }, element("span", { class: "soft" }, `${event.queue}/`), event.event),
    element("span", { class: "subject" }, event.subject ?? "–"),
    element("span", { class: "source medium" }, event.source));
  button.addEventListener("click", () => showEvent(event));
  return element("li", {}, button);
}
