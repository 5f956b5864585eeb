// What the page knows: the last snapshot with every delta after it. Values are absolute, so being told twice is harmless.

const HISTORY = 300;
const RECENT = 50;

export class Model {
  constructor() {
    this.clear();
    this.position = null;
    /** How far the server's clock is ahead of this one, in ms. */
    this.ahead = 0;
  }

  clear() {
    this.queues = new Map();
    this.recent = new Map();
    this.history = new Map();
    this.groups = [];
    this.connections = { total: 0, transports: {}, listed: [] };
    this.gateways = {};
    this.troubles = {};
  }

  take(kind, told) {
    if (kind === "snapshot") this.clear();
    this.position = told.position;
    this.ahead = told.at - Date.now();
    for (const [name, queue] of Object.entries(told.queues ?? {})) {
      const events = this.queues.get(name)?.events ?? new Map();
      for (const [event, figures] of Object.entries(queue.events)) events.set(event, figures);
      this.queues.set(name, { ...queue, events });
    }
    for (const event of told.recent ?? []) {
      this.recent.set(`${event.queue}/${event.partition}/${event.position}`, event);
    }
    if (this.recent.size > RECENT) {
      const newest = [...this.recent].sort(([, one], [, other]) => other.time - one.time).slice(0, RECENT);
      this.recent = new Map(newest);
    }
    for (const second of told.history ?? []) this.history.set(second.second, second);
    const oldest = this.second() - HISTORY;
    for (const second of this.history.keys()) if (second < oldest) this.history.delete(second);
    for (const part of ["groups", "connections", "gateways", "troubles"]) {
      if (told[part] !== undefined) this[part] = told[part];
    }
  }

  /** Now, by the server's clock, in ms. */
  now() {
    return Date.now() + this.ahead;
  }

  second() {
    return Math.floor(this.now() / 1000);
  }

  /** The seconds of the last `length`, oldest first, up to the last one that is over. */
  seconds(length) {
    const last = this.second() - 1;
    return Array.from({ length }, (_, at) => last - length + 1 + at);
  }

  /** Events of a queue (none named: of all) in each of the last seconds. */
  events(length, queue) {
    return this.seconds(length).map((second) => {
      const events = this.history.get(second)?.events ?? {};
      return queue === undefined ? Object.values(events).reduce((sum, each) => sum + each, 0) : (events[queue] ?? 0);
    });
  }

  /** The queues with the most events, by name. */
  busiest(most) {
    const queues = [...this.queues].sort(([, one], [, other]) => other.total - one.total);
    return queues.slice(0, most).map(([name]) => name).sort();
  }

  /** Events a second, each over five seconds, in the last seconds. */
  rates(length, queue) {
    const events = this.events(length + 4, queue);
    let sum = events[0] + events[1] + events[2] + events[3];
    return Array.from({ length }, (_, at) => {
      sum += events[at + 4] - (at > 0 ? events[at - 1] : 0);
      return sum / 5;
    });
  }

  rate(queue) {
    return this.rates(1, queue)[0];
  }

  /** Requests a second by class (1xx to 5xx) over all gateways, in each of the last seconds; null: nobody knows. */
  requests(length) {
    return this.seconds(length).map((second) => {
      // A look that came a moment late leaves a second out.
      const told = { ...this.history.get(second - 1)?.traffic, ...this.history.get(second)?.traffic };
      const traffic = Object.values(told);
      if (traffic.length === 0) return null;
      return [0, 1, 2, 3, 4].map((index) => traffic.reduce((sum, each) => sum + each.rates[index], 0));
    });
  }

  traffic() {
    const known = Object.values(this.gateways).filter((gateway) => gateway.traffic);
    if (known.length === 0) return null;
    const rates = [0, 1, 2, 3, 4].map((at) => known.reduce((sum, gateway) => sum + gateway.traffic.rates[at], 0));
    const all = rates.reduce((sum, each) => sum + each, 0);
    const p99 = known.map((gateway) => gateway.traffic.p99).filter((each) => each !== null);
    return { all, rates, errors: all > 0 ? rates[4] / all : 0, p99: p99.length ? Math.max(...p99) : null };
  }

  lag() {
    return this.groups.reduce((sum, group) => sum + group.lag, 0);
  }

  dead() {
    return this.groups.reduce((sum, group) => sum + group.dead, 0);
  }

  /** What is not as it should be, worst first: [{ level, text }]. */
  findings() {
    const bad = [];
    const warn = [];
    const gateways = Object.entries(this.gateways);
    for (const [url, gateway] of gateways) {
      if (gateway.health === "away") bad.push(`gateway ${url} is away`);
      if (gateway.health === "not_ready") warn.push(`gateway ${url} is not ready`);
    }
    for (const [part, trouble] of Object.entries(this.troubles)) bad.push(`${part}: ${trouble}`);
    for (const [name, queue] of this.queues) {
      if (queue.state.state === "away") bad.push(`queue ${name} is not read: ${queue.state.reason}`);
      if (queue.state.state === "catching_up") warn.push(`catching up with queue ${name}`);
      const missing = Object.entries(queue.missing);
      if (missing.length) warn.push(`queue ${name}: ${missing.map(([why, of]) => missed(why, of)).join("; ")}`);
    }
    for (const group of this.groups) {
      if (group.dead > 0) warn.push(`group ${group.name} has ${group.dead} dead ${group.dead === 1 ? "letter" : "letters"}`);
      if (group.blocked) warn.push(`group ${group.name} claims nothing more: too much is unsettled`);
      else if (isLate(group, this.now())) warn.push(`group ${group.name} is behind`);
    }
    return [...bad.map((text) => ({ level: "bad", text })), ...warn.map((text) => ({ level: "warn", text }))];
  }
}

/** An event that has waited for half a minute is late. */
export function isLate(group, now) {
  return group.oldest !== null && now - group.oldest > 30_000;
}

const WHY = {
  before: "trimmed before they were first looked at",
  retention: "trimmed before they were counted",
  lineage: "counted, then lost by the log",
  reset: "lost when the log began anew",
  unreadable: "unreadable",
};

function missed(why, { events, unknown }) {
  const number = events === 0 && unknown > 0 ? "an unknown number of events" : `${events}${unknown ? " or more" : ""} events`;
  return `${number} ${WHY[why] ?? why}`;
}
