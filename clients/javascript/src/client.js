// A client: one link at a time, and another one whenever it is lost.

import { Lost, TurnpikeError, pause, refusal } from "./failure.js";
import { HttpLink } from "./http.js";
import { Publishes } from "./publishes.js";
import { SocketLink } from "./socket.js";
import { OPENING } from "./stream.js";
import { Room, Subscription } from "./subscription.js";

/** How long a way that is blocked is not tried again, in ms. */
const AVOIDED = 600_000;

/** A connection to a broker that goes on by itself. It begins at once. */
export class Client {
  /** `connecting`, `open`, `reconnecting` or `closed`. */
  state = "connecting";
  /** What stands now; null: nothing. */
  link = null;
  #options; #subscriptions = new Map(); #publishes; #lastName = 0; #ended = null; #wake = null;
  #strikes = { websocket: 0, sse: 0 }; #avoided = { websocket: 0, sse: 0 }; #retry = () => this.retry();

  constructor(url = globalThis.location?.origin, options = {}) {
    this.#options = { transports: ["websocket", "sse", "long-poll"], state() {}, ...options };
    this.backoff = { first: 250, most: 30_000, ...options.backoff };
    this.base = new URL(url).href.replace(/^ws/, "http").replace(/[?#].*$/, "").replace(/\/$/, "");
    this.name = options.client;
    this.#publishes = new Publishes(this.backoff);
    // A browser knows when there is a network again.
    globalThis.addEventListener?.("online", this.#retry);
    this.#run();
  }

  /** Follows what a filter takes: an async iterator, or with callbacks. */
  subscribe(filter, options = {}, handlers = null) {
    const name = options.name ?? `s${++this.#lastName}`;
    return this.#add(new Subscription(this, name, filter, { ...options, room: null }), handlers);
  }

  /** Joins a room, `namespace/room`, and follows what happens there. */
  join(room, options = {}, handlers = null) {
    return this.#add(new Room(this, `room:${room}`, null, { ...options, room }), handlers);
  }

  /** Publishes; kept when the event is confirmed. */
  publish(event, { timeout = 60_000 } = {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    return this.#publishes.add(event, timeout);
  }

  /** Who is in a room. */
  async members(room) {
    return (await this.#ask("members", { room })).members;
  }

  /** Which of these users are online, since when, and where. */
  async presence(users) {
    return (await this.#ask("presence", { users })).users;
  }

  /** Comes back at once, not after the pause. */
  retry() {
    this.#wake?.();
  }

  /** Ends everything. What is not confirmed yet may be recorded or not. */
  close() {
    for (const subscription of this.#subscriptions.values()) subscription.acknowledge();
    this.#finish(new TurnpikeError("closed", "the client was closed"), null);
  }

  // What follows is for links and subscriptions.

  subscription(name) {
    return this.#subscriptions.get(name);
  }

  forget({ name }) {
    this.#subscriptions.delete(name);
  }

  async headers() {
    const { headers } = this.#options;
    return (typeof headers === "function" ? await headers() : headers) ?? {};
  }

  async token() {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  /** Browsers send no header fields with a WebSocket; node, bun and deno take them so, the package `ws` as a third argument. */
  socket(url, protocol, headers) {
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (Object.keys(headers).length === 0) return new Socket(url, protocol);
    return Socket.Server ? new Socket(url, protocol, { headers }) : new Socket(url, { protocols: [protocol], headers });
  }

  /** An HTTP request as who the client is, answered `within` so many ms. */
  async request(path, { headers, signal, within, ...options } = {}) {
    const token = await this.token();
    const all = { ...(await this.headers()), ...(token ? { "turnpike-principal": token } : {}), ...headers };
    const signals = [signal, within && AbortSignal.timeout(within)].filter(Boolean);
    // Runtimes without `any` wait as long as it takes.
    const either = signals.length > 1 ? (AbortSignal.any?.(signals) ?? signal) : signals[0];
    const { credentials = "same-origin", fetch: send = globalThis.fetch } = this.#options;
    return send(`${this.base}${path}`, { headers: all, signal: either, credentials, cache: "no-store", ...options });
  }

  passed(transport) {
    this.#strikes[transport] = 0;
  }

  /** Something on the way doesn't let this transport pass: the second time it is left alone for a while. */
  blocked(transport) {
    this.#strikes[transport] += 1;
    if (this.#strikes[transport] >= 2) this.#avoided[transport] = Date.now() + AVOIDED;
  }

  async #run() {
    for (let attempt = 0; !this.#ended; attempt += 1) {
      const began = Date.now();
      let lost;
      try {
        const link = await this.#open();
        this.#stands(link);
        lost = await link.ended;
        // Who is let in and sent away at once has no reason to hurry.
        if (lost.after || Date.now() - began > OPENING) attempt = 0;
      } catch (error) {
        lost = error;
      }
      this.#falls();
      if (this.#ended) return;
      if (!(lost instanceof Lost)) {
        this.#finish(lost, lost);
        return;
      }
      this.#say("reconnecting", lost.message);
      await this.#sleep(pause(attempt, this.backoff, lost.after));
    }
  }

  /** The best way that is not blocked. */
  async #open() {
    const ways = this.#options.transports.filter((way) => !(this.#avoided[way] > Date.now()));
    const [first, ...others] = ways;
    if (first === "websocket" && (this.#options.WebSocket ?? globalThis.WebSocket)) {
      const link = await this.#socketLink(others.length > 0);
      if (link) return link;
    } else await this.#reachable();
    const way = ways.find((each) => each !== "websocket");
    if (!way) throw new TurnpikeError("not-supported", "there is no WebSocket here");
    return new HttpLink(this, way);
  }

  /** Null: no WebSocket gets through, and plain HTTP does. */
  async #socketLink(mayFallBack) {
    for (let again = false; ; again = true) {
      try {
        const link = await SocketLink.open(this);
        this.passed("websocket");
        return link;
      } catch (error) {
        if (!mayFallBack || !(error instanceof Lost) || error.after) throw error;
        this.#strikes.websocket += 1;
        if (this.#strikes.websocket < 2 && !error.blocked) throw error;
        // A server that is away, or has just come back, is no way that is blocked.
        if (!again) await this.#reachable();
        if (!again && !error.blocked) continue;
        this.passed("websocket");
        this.#avoided.websocket = Date.now() + AVOIDED;
        return null;
      }
    }
  }

  /** Whether plain HTTP gets through: to a question without a filter the broker says what it lacks. */
  async #reachable() {
    const answer = await this.request("/events", { within: OPENING }).catch((error) => {
      throw Lost.of(error);
    });
    if (answer.status !== 400) throw await refusal(answer);
  }

  #stands(link) {
    if (this.#ended) {
      link.close();
      return;
    }
    this.link = link;
    this.#say("open", link.transport);
    for (const subscription of this.#subscriptions.values()) subscription.resume();
    this.#publishes.on(link);
  }

  #falls() {
    this.link = null;
    this.#publishes.lost();
    for (const subscription of this.#subscriptions.values()) subscription.lost();
  }

  #add(subscription, handlers) {
    if (this.#ended) throw this.#ended;
    if (this.#subscriptions.has(subscription.name)) {
      throw new TurnpikeError("conflict", `there is ${subscription.name} already`);
    }
    this.#subscriptions.set(subscription.name, subscription);
    subscription.resume();
    if (handlers) subscription.run(handlers);
    return subscription;
  }

  #ask(verb, body) {
    if (this.#ended) return Promise.reject(this.#ended);
    const away = (message) => new TurnpikeError("unavailable", message);
    if (!this.link) return Promise.reject(away("there is no connection now"));
    return new Promise((resolve, reject) => {
      this.link.ask(verb, body, (error, ok) => {
        if (error) reject(error instanceof Lost ? away(error.message) : error);
        else resolve(ok);
      });
    });
  }

  /** `error`: what those who wait are told; null: that it is over. */
  #finish(reason, error) {
    if (this.#ended) return;
    this.#ended = reason;
    globalThis.removeEventListener?.("online", this.#retry);
    for (const subscription of [...this.#subscriptions.values()]) subscription.end(error);
    this.#publishes.end(reason.code, reason.message);
    this.link?.close();
    this.link = null;
    this.#wake?.();
    this.#say("closed", reason.message, error);
  }

  #sleep(wait) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #say(state, detail, error = null) {
    this.state = state;
    this.#options.state(state, detail, error);
  }
}
