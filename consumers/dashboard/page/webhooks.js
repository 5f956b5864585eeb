// The page of webhooks: endpoints, and the attempts at the one that is chosen. It asks the broker through the gateway, as
// whoever is signed in; what an endpoint or a receiver says gets into the page as text alone.

import { askToSignIn, closeSignIn, setUpSignIn } from "./dialogs.js";
import { age, arrange, clock, count, element, milliseconds, write } from "./text.js";

const by = (id) => document.getElementById(id);

/** How often it asks, while somebody looks. */
const EVERY = 2_000;
const PAGE = 100;

const REASONS = {
  asked: "somebody disabled it",
  gone: "it answered 410: it wants nothing any more",
  failing: "nothing but failures for five days",
  remove_after: "as many failures in a row as it allows",
};

let endpoints = [];
let chosen = new URL(location.href).searchParams.get("id");
let attempts = [];
let shownEndpoints = PAGE;
let shownAttempts = PAGE;
let timer = null;

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, method = "GET", body) {
  const options = { method, credentials: "same-origin", cache: "no-store", headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const told = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told.detail ?? `the server answers ${answer.status}`);
  return told;
}

/** A list of pages, up to so many of it; and whether there is more. */
async function list(path, name, most) {
  const all = [];
  let after = null;
  do {
    const limit = Math.min(most - all.length, 1000);
    const url = `${path}${path.includes("?") ? "&" : "?"}limit=${limit}${after ? `&after=${encodeURIComponent(after)}` : ""}`;
    const told = await ask(url);
    all.push(...told[name]);
    after = told.next ?? null;
  } while (after !== null && all.length < most);
  return { all, more: after !== null };
}

const id = (endpoint) => encodeURIComponent(endpoint.id ?? endpoint);

async function look() {
  clearTimeout(timer);
  try {
    const found = await list("/webhooks", "webhooks", shownEndpoints);
    endpoints = found.all;
    by("endpoints-more").hidden = !found.more;
    const one = endpoints.find((endpoint) => endpoint.id === chosen);
    if (one) {
      const failed = by("failed").checked ? "?failed=true" : "";
      const tried = await list(`/webhooks/${id(one)}/attempts${failed}`, "attempts", shownAttempts);
      if (one.id === chosen) attempts = tried.all;
      by("attempts-more").hidden = !tried.more;
    }
    document.documentElement.dataset.figures = "true";
    show();
    link("live");
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      turnedAway(error.status);
      return;
    }
    link("reconnecting", error.message);
  }
  timer = setTimeout(() => !document.hidden && look(), EVERY);
}

let state = "connecting";
let since = null;

function link(now, why = "") {
  const words = { live: "live", reconnecting: "reconnecting", "signed-out": "signed out", refused: "no permission" };
  if (now === "live") since = null;
  else since ??= Date.now();
  state = now;
  by("link").dataset.state = now;
  by("link").title = why;
  write(by("link").querySelector(".text"), words[now] + (since && endpoints.length ? ` · stale since ${clock(since)}` : ""));
  document.documentElement.dataset.stale = String(now !== "live" && endpoints.length > 0);
  by("sign-in").hidden = now !== "signed-out" && now !== "refused";
  if (now === "live") closeSignIn();
}

function turnedAway(status) {
  const now = status === 401 ? "signed-out" : "refused";
  if (state !== now) askToSignIn(now === "refused" ? "refused" : endpoints.length ? "ended" : "first");
  link(now);
}

function show() {
  showEndpoints();
  showChosen();
}

function level(endpoint) {
  if (endpoint.state === "disabled") return endpoint.reason === "asked" ? "warn" : "bad";
  return endpoint.failures > 0 ? "warn" : "good";
}

function word(endpoint) {
  if (endpoint.state === "disabled") return "disabled";
  return endpoint.failures > 0 ? `failing ${count(endpoint.failures)}×` : "enabled";
}

const MARKS = { good: "●", warn: "▲", bad: "■" };

function badge(node, how, text) {
  node.dataset.level = how;
  write(node, `${MARKS[how] ?? "○"} ${text}`);
}

function showEndpoints() {
  const waiting = endpoints.reduce((sum, endpoint) => sum + endpoint.lag, 0);
  const disabled = endpoints.filter((endpoint) => endpoint.state === "disabled").length;
  const note = endpoints.length ? `${count(endpoints.length)}, ${count(disabled)} disabled, ${count(waiting)} events wait` : "";
  write(by("endpoints-note"), note);
  write(by("status"), `${note}.`);
  by("endpoints").hidden = endpoints.length === 0;
  by("endpoints-empty").hidden = endpoints.length > 0;
  arrange(by("endpoints").tBodies[0], endpoints, (endpoint) => endpoint.id, makeRow, updateRow);
}

function makeRow(endpoint) {
  const choose = element("button", { type: "button", class: "choose" });
  const row = element("tr", {},
    element("th", { scope: "row" }, choose, element("span", { class: "log" })),
    element("td", {}, element("span", { class: "badge" })),
    element("td", { class: "number" }),
    element("td", { class: "number medium" }),
    element("td", { class: "number medium" }),
    element("td", { class: "number medium" }));
  row.addEventListener("click", () => pick(endpoint.id));
  return row;
}

function updateRow(row, endpoint) {
  const [name, state, lag, retrying, dead, success] = row.children;
  write(name.querySelector(".choose"), endpoint.description || address(endpoint.url));
  write(name.querySelector(".log"), endpoint.description ? `${address(endpoint.url)} · ${endpoint.filter}` : endpoint.filter);
  row.setAttribute("aria-selected", String(endpoint.id === chosen));
  badge(state.firstElementChild, level(endpoint), word(endpoint));
  figure(lag, endpoint.lag);
  figure(retrying, endpoint.retrying);
  figure(dead, endpoint.dead, "warn");
  write(success, endpoint.last_success ? age(Date.now() - Date.parse(endpoint.last_success)) : "–");
}

function figure(node, number, how = "") {
  write(node, count(number));
  node.classList.toggle("zero", number === 0);
  node.dataset.level = number > 0 ? how : "";
}

function address(url) {
  try {
    const { host, pathname } = new URL(url);
    return host + (pathname === "/" ? "" : pathname);
  } catch {
    return url;
  }
}

function pick(one) {
  if (one === chosen) return;
  chosen = one;
  attempts = [];
  shownAttempts = PAGE;
  const url = new URL(location.href);
  url.searchParams.set("id", one);
  history.replaceState(null, "", url);
  show();
  look();
}

function showChosen() {
  const endpoint = endpoints.find((one) => one.id === chosen);
  by("chosen").hidden = !endpoint;
  if (!endpoint) return;
  write(by("h-chosen"), endpoint.description || address(endpoint.url));
  by("enable").hidden = endpoint.state !== "disabled";
  by("disable").hidden = endpoint.state === "disabled";
  const findings = [];
  if (endpoint.state === "disabled") {
    const [at, why] = [Date.parse(endpoint.disabled_at), REASONS[endpoint.reason] ?? endpoint.reason];
    findings.push(`Disabled for ${age(Date.now() - at)}: ${why}. ${count(endpoint.lag)} events wait.`);
  } else if (endpoint.failing_since) {
    findings.push(`Nothing but failures for ${age(Date.now() - Date.parse(endpoint.failing_since))}, ${count(endpoint.failures)} in a row.`);
  }
  if (endpoint.lost > 0) findings.push(`${count(endpoint.lost)} events were dropped before it got them.`);
  by("finding").hidden = findings.length === 0;
  by("finding").dataset.level = level(endpoint) === "good" ? "warn" : level(endpoint);
  write(by("finding"), findings.join(" "));
  const facts = [
    ["Address", endpoint.url, "wide"],
    ["Filter", endpoint.filter, "wide"],
    ["Id", endpoint.id, "wide"],
    ["Owner", endpoint.owner ?? "–"],
    ["Order", endpoint.ordered ? "by key" : "any"],
    ["Signature", endpoint.former_until ? `${endpoint.signature}, and the former until ${clock(endpoint.former_until)}` : endpoint.signature],
    ["Acknowledges within", endpoint.ack_within ?? "at once"],
    ["Waiting", count(endpoint.lag)],
    ["In flight", count(endpoint.in_flight)],
    ["For another attempt", count(endpoint.retrying)],
    ["Dead letters", count(endpoint.dead)],
    ["Oldest", endpoint.oldest ? age(Date.now() - Date.parse(endpoint.oldest)) : "–"],
  ];
  arrange(by("facts"), facts, ([name]) => name,
    ([name, , kind]) => element("div", { class: kind ?? "" }, element("dt", {}, name), element("dd")),
    (node, [, text]) => write(node.lastElementChild, text));
  by("attempts-empty").hidden = attempts.length > 0;
  arrange(by("attempts"), attempts, (one) => `${one.at} ${one.event} ${one.attempt}`, makeAttempt, () => {});
}

function makeAttempt(one) {
  const how = one.class === "delivered" || one.class === "accepted" ? "good" : one.class === "gone" ? "bad" : "warn";
  const outcome = element("span", { class: "badge" });
  badge(outcome, how, one.status ?? one.class.replaceAll("_", " "));
  const row = element("button", { type: "button", class: "try" },
    element("time", { datetime: one.at }, clock(one.at)), outcome,
    element("span", { class: "id" }, `${one.address} ${one.event}`),
    element("span", { class: "took" }, `${one.attempt ? `№ ${one.attempt}` : "test"} · ${milliseconds(one.took_ms)}`),
    element("span", { class: "why" }, one.error && one.error !== String(one.status) ? one.error : ""));
  row.addEventListener("click", () => showAttempt(one));
  return element("li", {}, row);
}

function showAttempt(one) {
  write(by("attempt-title"), `${one.address} · ${one.event}`);
  const parts = [one.attempt ? `attempt ${one.attempt}` : "a test", one.at, one.class.replaceAll("_", " "), one.error ?? ""];
  write(by("attempt-what"), parts.filter(Boolean).join(" · "));
  write(by("attempt-text"), one.answer || "The receiver said nothing.");
  by("attempt-dialog").showModal();
}

async function act(button, what) {
  button.disabled = true;
  try {
    await what();
  } catch (error) {
    by("finding").hidden = false;
    by("finding").dataset.level = "bad";
    write(by("finding"), error.message);
  } finally {
    button.disabled = false;
  }
}

by("test").addEventListener("click", () => act(by("test"), async () => {
  const tried = await ask(`/webhooks/${id(chosen)}/test`, "POST");
  showAttempt(tried);
  await look();
}));
by("disable").addEventListener("click", () => act(by("disable"), async () => {
  await ask(`/webhooks/${id(chosen)}/disable`, "POST");
  await look();
}));
by("enable").addEventListener("click", () => act(by("enable"), async () => {
  const rehearse = (from) => ask(`/webhooks/${id(chosen)}/enable`, "POST", { from, dry_run: true });
  const [then, now] = await Promise.all([rehearse("then"), rehearse("now")]);
  write(by("enable-then"), `from where it stopped: it gets ${count(then.count)} events`);
  write(by("enable-now"), `from now on: ${count(now.skipped)} events are passed over`);
  write(by("enable-lost"), then.lost ? `${count(then.lost)} events were dropped already, and can't come.` : "");
  write(by("enable-fault"), "");
  by("enable-dialog").showModal();
}));
by("enable-cancel").addEventListener("click", () => by("enable-dialog").close());
by("enable-form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  by("enable-go").disabled = true;
  try {
    await ask(`/webhooks/${id(chosen)}/enable`, "POST", { from: new FormData(submitted.target).get("from") });
    by("enable-dialog").close();
    await look();
  } catch (error) {
    write(by("enable-fault"), error.message);
  } finally {
    by("enable-go").disabled = false;
  }
});
by("failed").addEventListener("change", look);
by("endpoints-more").addEventListener("click", () => { shownEndpoints += PAGE; look(); });
by("attempts-more").addEventListener("click", () => { shownAttempts += PAGE; look(); });
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("turnpike-theme", root.dataset.theme);
  } catch { /* for this visit only, then */ }
});
setUpSignIn(look);
document.addEventListener("visibilitychange", () => !document.hidden && look());
look();
