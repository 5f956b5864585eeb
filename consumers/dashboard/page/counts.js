// The table of queues and their events.

import { arrange, count, element, rate, write } from "./text.js";
import { drawSpark, spark } from "./charts.js";

const table = document.getElementById("counts");
const empty = document.getElementById("counts-empty");

const STATES = { catching_up: "▲ catching up", away: "✕ not read", live: "" };

export function showCounts(model) {
  empty.hidden = model.queues.size > 0;
  const queues = [...model.queues].sort(([one], [other]) => one.localeCompare(other));
  // One body a queue, behind the head.
  arrange(table, queues, ([name]) => name, ([name]) => queueBody(name),
    (body, [name, queue]) => update(body, name, queue, model), table.tHead);
}

function queueBody(name) {
  const body = element("tbody", { "data-testid": `queue-${name}` });
  const title = element("th", { scope: "rowgroup" },
    element("span", { class: "queue-name" }, name), " ", element("span", { class: "state" }), element("span", { class: "log" }));
  body.append(element("tr", { class: "queue" }, title,
    element("td", { class: "number", "data-testid": `count-${name}` }),
    element("td", { class: "number" }),
    element("td", { class: "number medium" }),
    element("td", { class: "trend medium" }, spark())));
  return body;
}

function update(body, name, queue, model) {
  const row = body.rows[0];
  const [title, total, minute, now, trend] = row.cells;
  write(title.querySelector(".state"), STATES[queue.state.state]);
  const missing = Object.values(queue.missing).reduce((sum, each) => sum + each.events, 0);
  const log = [`${count(queue.kept)} kept`, `${queue.partitions} ${queue.partitions === 1 ? "partition" : "partitions"}`];
  if (missing > 0) log.push(`▲ ${count(missing)} missing`);
  write(title.querySelector(".log"), log.join(" · "));
  write(total, count(queue.total));
  write(minute, count([...queue.events.values()].reduce((sum, event) => sum + event.minute, 0)));
  write(now, rate([...queue.events.values()].reduce((sum, event) => sum + event.lately, 0) / 5));
  // It moves once a second.
  const second = String(model.second());
  if (trend.dataset.second !== second) {
    trend.dataset.second = second;
    drawSpark(trend.firstElementChild, model.rates(120, name));
  }
  const events = [...queue.events].sort(([one], [other]) => one.localeCompare(other));
  if (queue.others > 0) events.push(["", { count: queue.others, minute: null }]);
  arrange(body, events, ([event]) => event, ([event]) => eventRow(name, event), (of, [, figures]) => {
    const cell = of.cells[1];
    const text = count(figures.count);
    if (cell.textContent !== text) {
      if (cell.textContent !== "") flash(cell);
      cell.textContent = text;
    }
    write(of.cells[2], figures.minute === null ? "" : count(figures.minute));
    write(of.cells[3], figures.minute === null ? "" : rate(figures.lately / 5));
  }, row);
}

function eventRow(queue, event) {
  return element("tr", { class: "event" },
    element("th", { scope: "row" }, event === "" ? "further names" : event),
    element("td", { class: "number count", "data-testid": `count-${queue}-${event}` }),
    element("td", { class: "number" }),
    element("td", { class: "number medium" }),
    element("td", { class: "trend medium" }));
}

/** A count that rose glows for a moment. */
function flash(cell) {
  cell.classList.remove("rose");
  void cell.offsetWidth;
  cell.classList.add("rose");
}
