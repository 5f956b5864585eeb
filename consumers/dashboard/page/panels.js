// Tiles, groups, gateways, connections, and the word on how all is.

import { age, arrange, count, element, milliseconds, percent, rate, write } from "./text.js";
import { isLate } from "./model.js";

const by = (id) => document.getElementById(id);
const figure = (id) => document.querySelector(`[data-testid="tile-${id}"] .figure`);

export function showTiles(model) {
  write(figure("events"), rate(model.rate()));
  const total = [...model.queues.values()].reduce((sum, queue) => sum + queue.total, 0);
  write(by("sub-events"), `${count(total)} in all`);
  const traffic = model.traffic();
  write(figure("requests"), traffic ? rate(traffic.all) : "–");
  write(by("sub-requests"), traffic ? `p99 ${milliseconds(traffic.p99)}` : "no gateway answers");
  write(figure("errors"), traffic ? percent(traffic.errors) : "–");
  write(by("sub-errors"), traffic ? `${rate(traffic.rates[4])}/s are 5xx` : "");
  level(figure("errors"), traffic && traffic.errors > 0.01 ? "bad" : "");
  write(figure("connections"), count(model.connections.total));
  const groups = new Set(model.connections.listed.map((connection) => connection.node)).size;
  write(by("sub-connections"), model.connections.total ? `on ${groups} ${groups === 1 ? "node" : "nodes"}` : "");
  write(figure("lag"), count(model.lag()));
  const late = model.groups.filter((group) => isLate(group, model.now())).length;
  write(by("sub-lag"), late ? `▲ ${late} ${late === 1 ? "group is" : "groups are"} behind` : "all groups keep up");
  level(figure("lag"), late ? "warn" : "");
  write(figure("dead"), count(model.dead()));
  const dead = model.groups.filter((group) => group.dead > 0).length;
  write(by("sub-dead"), dead ? `▲ in ${dead} ${dead === 1 ? "group" : "groups"}` : "none");
  level(figure("dead"), dead ? "warn" : "");
}

function level(node, name) {
  node.dataset.level = name;
}

const MOST_FINDINGS = 8;
const MARKS = { good: "●", warn: "▲", bad: "✕", unknown: "○" };

/** The word on how all is; gives it back for the status line. */
export function showHealth(model) {
  const findings = model.findings();
  const worst = findings[0]?.level ?? "good";
  const bad = findings.filter((finding) => finding.level === "bad").length;
  const warnings = findings.length - bad;
  const words = [bad && `${bad} ${bad === 1 ? "problem" : "problems"}`,
    warnings && `${warnings} ${warnings === 1 ? "warning" : "warnings"}`];
  const text = words.filter(Boolean).join(", ") || "All is well";
  const pill = by("health");
  pill.dataset.level = worst;
  write(pill.querySelector(".mark"), MARKS[worst]);
  write(pill.querySelector(".text"), text);
  const list = by("troubles");
  list.hidden = findings.length === 0;
  const more = findings.length - MOST_FINDINGS;
  const listed = findings.slice(0, MOST_FINDINGS);
  if (more > 0) listed.push({ level: "warn", text: `and ${more} more` });
  arrange(list, listed, (finding) => finding.text, () => element("li"), (item, finding) => {
    item.dataset.level = finding.level;
    write(item, `${MARKS[finding.level]} ${finding.text}`);
  });
  return findings.length === 0 ? text : `${text}: ${findings[0].text}`;
}

export function showGroups(model) {
  by("groups-empty").hidden = model.groups.length > 0;
  write(by("groups-note"), model.groups.length ? String(model.groups.length) : "");
  arrange(by("groups").tBodies[0], model.groups, (group) => group.name, groupRow, (row, group) => {
    const [title, lag, flight, retry, parked, dead, oldest] = row.cells;
    const late = isLate(group, model.now());
    title.title = `${group.filter} · ${group.mode}`;
    write(title.querySelector(".log"), `${group.filter} · ${group.mode}${group.blocked ? " · ▲ blocked" : ""}`);
    write(lag, `${late ? "▲ " : ""}${count(group.lag)}`);
    lag.dataset.level = late ? "warn" : "";
    write(flight, count(group.in_flight));
    write(retry, count(group.retrying));
    write(parked, count(group.parked));
    write(dead, `${group.dead > 0 ? "✕ " : ""}${count(group.dead)}`);
    dead.dataset.level = group.dead > 0 ? "bad" : "";
    write(oldest, group.oldest === null ? "–" : age(model.now() - group.oldest));
    for (const cell of [lag, flight, retry, parked, dead]) cell.classList.toggle("zero", /^0$/.test(cell.textContent));
  });
}

function groupRow(group) {
  const number = (more = "") => element("td", { class: `number ${more}` });
  return element("tr", { "data-testid": `group-${group.name}` },
    element("th", { scope: "row" }, element("span", { class: "queue-name" }, group.name), element("span", { class: "log" })),
    number(), number("roomy"), number("roomy"), number("roomy"), number(), number("medium"));
}

const HEALTH = { ready: "● ready", not_ready: "▲ not ready", away: "✕ away", unknown: "○ not asked yet" };
const LEVEL = { ready: "good", not_ready: "warn", away: "bad", unknown: "" };

export function showGateways(model) {
  const gateways = Object.entries(model.gateways);
  by("gateways-empty").hidden = gateways.length > 0;
  arrange(by("gateways"), gateways, ([url]) => url, gatewayItem, (item, [, gateway]) => {
    const state = item.querySelector(".gateway-state");
    write(state, HEALTH[gateway.health] ?? gateway.health);
    state.dataset.level = LEVEL[gateway.health] ?? "";
    write(item.querySelector(".reasons"), (gateway.reasons ?? []).join("; "));
    const traffic = gateway.traffic;
    const all = traffic ? traffic.rates.reduce((sum, each) => sum + each, 0) : null;
    const number = (value, form) => (value === null || value === undefined ? "–" : form(value));
    const figures = [number(all, rate), milliseconds(traffic?.p50), milliseconds(traffic?.p99),
      number(gateway.in_flight, count), number(gateway.connections, count)];
    item.querySelectorAll("dd").forEach((cell, at) => write(cell, figures[at]));
  });
}

function gatewayItem([url]) {
  const pairs = ["requests/s", "p50", "p99", "in flight", "clients"];
  return element("li", {},
    element("p", { class: "gateway-line" }, element("span", { class: "queue-name" }, url.replace(/^http:\/\//, "")),
      element("span", { class: "gateway-state" })),
    element("p", { class: "reasons" }),
    element("dl", {}, ...pairs.map((name) => element("div", {}, element("dt", {}, name), element("dd", {}, "–")))));
}

const TRANSPORTS = { web_socket: "WebSocket", sse: "SSE", long_poll: "long-poll", grpc: "gRPC", member: "members" };

export function showConnections(model) {
  const { total, transports, listed } = model.connections;
  by("connections-empty").hidden = total > 0;
  arrange(by("transports"), Object.entries(transports), ([name]) => name, () => element("li"), (item, [name, number]) => {
    write(item, `${count(number)} ${TRANSPORTS[name] ?? name}`);
  });
  arrange(by("connections").tBodies[0], listed, (connection) => connection.id, connectionRow, (row, connection) => {
    const [who, follows, since] = row.cells;
    const groups = connection.subscriptions.map((each) => each.group).filter(Boolean);
    write(who.querySelector(".queue-name"), connection.subject ?? (groups.join(", ") || "nobody in particular"));
    const place = TRANSPORTS[connection.transport] ?? connection.transport;
    write(who.querySelector(".log"), [connection.transport === "member" ? "member" : place, connection.address].filter(Boolean).join(" · "));
    write(follows, connection.subscriptions.map((each) => each.filter).join(", ") || "–");
    write(since, age(model.now() - Date.parse(connection.since)));
  });
}

function connectionRow() {
  return element("tr", {},
    element("th", { scope: "row" }, element("span", { class: "queue-name" }), element("span", { class: "log" })),
    element("td", { class: "medium follows" }), element("td", { class: "number" }));
}
