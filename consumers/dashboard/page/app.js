// Wiring: the feed fills the model, the model is shown, at most once a frame.

import { Chart, CHARTED } from "./charts.js";
import { showCounts } from "./counts.js";
import { askToSignIn, closeSignIn, setUpSignIn, showHelp } from "./dialogs.js";
import { Feed } from "./feed.js";
import { Model } from "./model.js";
import { showConnections, showGateways, showGroups, showHealth, showTiles } from "./panels.js";
import { setUpRecent, showRecent, togglePause } from "./recent.js";
import { clock, write } from "./text.js";

const by = (id) => document.getElementById(id);

const model = new Model();
const rates = new Chart(by("rate-chart"), by("rate-legend"), []);
const traffic = new Chart(by("traffic-chart"), by("traffic-legend"), [
  { label: "2xx, 3xx", color: "--series-2" }, { label: "4xx", color: "--series-3" }, { label: "5xx", color: "--series-4" },
]);

function showCharts() {
  const seconds = model.seconds(CHARTED);
  const queues = model.busiest(4);
  const lines = queues.map((queue) => model.rates(CHARTED, queue));
  const series = queues.map((label, at) => ({ label, color: `--queue-${at + 1}` }));
  if (model.queues.size > queues.length) {
    const all = model.rates(CHARTED);
    lines.push(all.map((events, at) => Math.max(0, lines.reduce((rest, line) => rest - line[at], events))));
    series.push({ label: "others", color: "--queue-5" });
  }
  rates.show(seconds, lines, series);
  const requests = model.requests(CHARTED);
  const sum = (classes) => requests.map((all) => all && classes.reduce((total, at) => total + all[at], 0));
  traffic.show(seconds, [sum([0, 1, 2]), sum([3]), sum([4])]);
}

let asked = false;
let charted = 0;

/** Shows what changed, at the next frame. */
function show() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (model.position === null) return;
    document.documentElement.dataset.figures = "true";
    showTiles(model);
    showCounts(model);
    showGroups(model);
    showGateways(model);
    showConnections(model);
    showRecent(model);
    if (charted !== model.second()) {
      charted = model.second();
      showCharts();
    }
    health = showHealth(model);
    summarise();
  });
}

let health = "";
let link = "connecting";

const LINKS = {
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  "signed-out": "signed out",
  refused: "no permission",
};

/** How the feed goes. A hiccup shorter than a moment is not shown. */
function linked(state, reason) {
  clearTimeout(linked.timer);
  if (state === "reconnecting" && link === "live") {
    linked.since ??= Date.now();
    linked.timer = setTimeout(() => showLink(state, reason), 1_200);
    return;
  }
  if (state === "live") linked.since = null;
  else linked.since ??= Date.now();
  showLink(state, reason);
}

function showLink(state, reason) {
  const before = link;
  link = state;
  const node = by("link");
  node.dataset.state = state;
  node.title = reason;
  const since = state === "live" || model.position === null ? "" : ` · stale since ${clock(linked.since)}`;
  write(node.querySelector(".text"), `${LINKS[state]}${since}`);
  document.documentElement.dataset.stale = String(since !== "");
  by("sign-in").hidden = state !== "signed-out" && state !== "refused";
  // Asked once: who says "not now" finds the button.
  if (before !== state) {
    if (state === "live") closeSignIn();
    if (state === "refused") askToSignIn("refused");
    if (state === "signed-out") askToSignIn(model.position === null ? "first" : "ended");
  }
  summarise();
}

/** The one line that a screen reader is told: how it goes, not every figure. */
function summarise() {
  write(by("status"), link === "live" ? `Live. ${health}` : `${LINKS[link]}. The figures don't move.`);
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("turnpike-theme", root.dataset.theme);
  } catch { /* for this visit only, then */ }
  recolour();
}

function recolour() {
  rates.make();
  traffic.make();
}

const feed = new Feed("/dashboard/stream", {
  take(kind, told) {
    model.take(kind, told);
    show();
  },
  state: linked,
  position: () => model.position,
});

setUpRecent();
setUpSignIn(() => {
  showLink("connecting", "");
  feed.retry();
});
by("theme").addEventListener("click", switchTheme);
by("help").addEventListener("click", showHelp);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
addEventListener("keydown", (key) => {
  const typing = key.target instanceof HTMLInputElement || document.querySelector("dialog[open]");
  if (typing || key.ctrlKey || key.metaKey || key.altKey) return;
  const shortcut = { "/": () => by("filter").focus(), p: togglePause, t: switchTheme, "?": showHelp }[key.key];
  if (!shortcut) return;
  key.preventDefault();
  shortcut();
});
// Time passes also when nothing is told: rates fall, ages grow.
setInterval(() => link === "live" && show(), 1_000);
feed.start();
