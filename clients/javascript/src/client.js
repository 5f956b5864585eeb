// A client: one link at a time, and another one whenever it is lost.

import { Lost, TurnpikeError, pause } from "./failure.js";
import { Publishes } from "./publishes.js";
import { OPENING } from "./stream.js";
import { Room, Subscription } from "./subscription.js";
import { Ways } from "./ways.js";

/** A link that stood so long was a good one, in ms. */
const SETTLED = 10_000;

/** A connection to a broker that goes on by itself. It begins at once. */
export class Client {
  /** `connecting`, `open`, `reconnecting` or `closed`. */
  state = "connecting";
  /** What stands now; null: nothing. */
  link = null;
  #options; #subscriptions = new Map(); #publishes; #lastName = 0; #ended = null; #over = new AbortController();
  #hasStood = false; #refused = null; #wake = null; #isAskedToWait = false; #lookAgain = (event) => this.#look(event);

  constructor(url = globalThis.location?.origin, options = {}) {
    this.#options = options;
    this.backoff = { first: 250, most: 30_000, ...options.backoff };
    this.openWithin = options.openWithin ?? OPENING;
    this.base = new URL(url).href.replace(/^ws/, "http").replace(/[?#].*$/, "").replace(/\/$/, "");
    this.name = options.client;
    this.ways = new Ways(this, options);
    this.#publishes = new Publishes(this.backoff);
    // A browser knows when there is a network again, and when somebody looks.
    globalThis.addEventListener?.("online", this.#lookAgain);
    globalThis.document?.addEventListener("visibilitychange", this.#lookAgain);
    this.#run();
  }

  /** Follows what a filter takes: an async iterator, or with callbacks. */
  subscribe(filter, options = {}, handlers = null) {
    const name = options.name ?? this.#newName();
    return this.#add(new Subscription(this, name, filter, { ...options, room: null }), handlers);
  }

  /** Joins a room, `namespace/room`, and follows what happens there. */
  join(room, options = {}, handlers = null) {
    return this.#add(new Room(this, `room:${room}`, null, { ...options, room }), handlers);
  }

  /** Publishes; kept when the event is confirmed. */
  publish(event, options = {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    return this.#publishes.add(event, options);
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

  headers() {
    return this.#asked(this.#options.headers, {});
  }

  token() {
    return this.#asked(this.#options.token);
  }

  /** What is given, or what a function gives that is told whether the last one was refused. */
  async #asked(given, otherwise) {
    return (typeof given === "function" ? await given(this.#refused) : given) ?? otherwise;
  }

  /** An HTTP request as who the client is, whose answer `take` takes in; both `within` so many ms, unless `signal` ends them. */
  async request(path, { headers, signal, within, ...more }, take) {
    const control = new AbortController();
    const giveUp = () => control.abort();
    const signals = [this.#over.signal, ...(signal ? [signal] : [])];
    for (const each of signals) each.addEventListener("abort", giveUp);
    const timer = within && setTimeout(giveUp, within);
    try {
      const givenUp = new Promise((_, reject) => {
        control.signal.addEventListener("abort", () => reject(new Lost("given up")));
      });
      if (signals.some(({ aborted }) => aborted)) giveUp();
      const [own, token] = await Promise.race([givenUp, Promise.all([this.headers(), this.token()])]);
      const { credentials = "same-origin", fetch: send = globalThis.fetch } = this.#options;
      const all = { ...own, ...(token && { "turnpike-principal": token }), ...headers };
      const options = { headers: all, signal: control.signal, credentials, cache: "no-store", ...more };
      const answer = await send(`${this.base}${path}`, options);
      if (answer.ok) this.#refused = null;
      return await take(answer);
    } finally {
      clearTimeout(timer);
      // What is left of the answer isn't wanted.
      giveUp();
      for (const each of signals) each.removeEventListener("abort", giveUp);
    }
  }

  async #run() {
    for (let attempt = 0; !this.#ended; attempt += 1) {
      let why;
      try {
        const link = await this.ways.open();
        const stands = Date.now();
        this.#stands(link);
        why = await link.ended;
        // Who is let in and sent away at once, again and again, has no reason to hurry.
        if (Date.now() - stands > SETTLED) attempt = 0;
      } catch (error) {
        why = error;
      }
      this.#falls();
      if (this.#ended) return;
      if (!(why instanceof Lost) && !this.#mayComeBack(why)) {
        this.#finish(why, why);
        return;
      }
      this.#say("reconnecting", why.message);
      this.#isAskedToWait = Boolean(why.after);
      await this.#sleep(pause(attempt, this.backoff, why.after));
    }
  }

  /** Whether what is no loss may pass all the same. */
  #mayComeBack(error) {
    // A token that is made anew may be good. Once.
    const { token, headers } = this.#options;
    if (error.code === "unauthenticated" && !this.#refused && [token, headers].some((given) => typeof given === "function")) {
      this.#refused = error;
      return true;
    }
    // Where there was a broker, somebody else answers on the way.
    return this.#hasStood && error.status < 400;
  }

  #stands(link) {
    if (this.#ended) {
      link.close();
      return;
    }
    this.link = link;
    this.#hasStood = true;
    if (link.transport === "websocket") this.#refused = null;
    this.#say("open", link.transport);
    for (const subscription of this.#subscriptions.values()) subscription.resume();
    this.#publishes.on(link);
  }

  #falls() {
    this.link = null;
    this.#publishes.lost();
    for (const subscription of this.#subscriptions.values()) subscription.lost();
  }

  #newName() {
    let name;
    do name = `s${++this.#lastName}`;
    while (this.#subscriptions.has(name));
    return name;
  }

  #add(subscription, handlers) {
    if (this.#ended) throw this.#ended;
    if (this.#subscriptions.has(subscription.name)) {
      throw new TurnpikeError("conflict", `there is ${subscription.name} already`);
    }
    this.#subscriptions.set(subscription.name, subscription);
    subscription.resume();
    if (subscription.signal?.aborted) subscription.close();
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
    globalThis.removeEventListener?.("online", this.#lookAgain);
    globalThis.document?.removeEventListener("visibilitychange", this.#lookAgain);
    for (const subscription of [...this.#subscriptions.values()]) subscription.end(error);
    this.#publishes.end(reason);
    this.link?.close();
    this.ways.close();
    this.#over.abort();
    this.link = null;
    this.#wake?.();
    this.#say("closed", reason.message, error);
  }

  /** There is a network again, or the page is seen again: what was found out before may be otherwise now. */
  #look({ type }) {
    if (type === "visibilitychange" && document.hidden) return;
    this.link?.probe();
    if (!this.#isAskedToWait) this.retry();
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
    try {
      this.#options.state?.(state, detail, error);
    } catch (thrown) {
      // Its own fault, and not the client's end.
      setTimeout(() => {
        throw thrown;
      });
    }
  }
}
