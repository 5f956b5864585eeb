// What is followed. It outlives every link: it knows after what it was told last, and goes on from there on the next one.

import { Lost, TurnpikeError, later, pause, passes } from "./failure.js";

const DEFAULT_CREDIT = 256;
/** Gaps and the like that may wait beside the events that the credit allows. */
const MOST_WORDS = 64;

/** An async iterator of what is told. What was given last counts as done with when the next is asked for. */
export class Subscription {
  /** After what the program is done with; null until something is known. */
  cursor = null;
  /** After what was received last. */
  last = null;
  #filter; #begin; #queue = []; #waiters = []; #given = null; #error = null; #state = "idle"; #link = null;
  #unacknowledged = 0; #acknowledged = null; #ackTimer; #roomy = null; #rest = null; #failures = 0;

  constructor(client, name, filter, { cursor, credit = DEFAULT_CREDIT, view, durable = false, room = null, signal } = {}) {
    Object.assign(this, { client, name, credit, view, durable, room, signal });
    this.#filter = filter;
    this.#begin = cursor;
    signal?.addEventListener("abort", this.#abort);
    /** That it follows, for the first time: `{ cursor, replaying }`. */
    this.ready = new Promise((resolve, reject) => Object.assign(this.#settleReady, { resolve, reject }));
    this.ready.catch(() => {});
  }

  #settleReady = {}; #abort = () => this.close();

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    this.#done();
    const item = this.#queue.shift();
    if (item) {
      this.#given = item;
      if (this.#queue.length < this.credit) this.#makeRoom();
      if (this.#queue.length === 0) this.resume();
      return Promise.resolve({ value: item.told, done: false });
    }
    const error = this.#error;
    this.#error = null;
    if (error) return Promise.reject(error);
    if (this.#state === "over") return Promise.resolve({ value: undefined, done: true });
    // The one in hand may have held it up.
    this.resume();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  async return() {
    this.close();
    return { value: undefined, done: true };
  }

  /** Ends it. What waits is not given any more; its cursor stays where the program was. */
  close() {
    if (this.#state === "over") return;
    // Whether the one in hand is done with nobody has said.
    this.#given = null;
    this.acknowledge();
    this.#queue = [];
    const link = this.#link;
    this.end(null);
    link?.unfollow(this);
  }

  /** Has callbacks take what is told, one after the other. */
  async run(handlers) {
    const takes = { event: "event", gap: "gap", missed: "missed", "caught-up": "caughtUp" };
    try {
      for await (const told of this) await handlers[takes[told.kind]]?.(told);
    } catch (error) {
      this.close();
      if (!handlers.error) throw error;
      handlers.error(error);
    }
  }

  // What follows is for the client and its links.

  /** The frame that asks for it. */
  wish() {
    const cursor = this.last ?? this.#begin;
    const body = { credit: this.credit, ...(cursor ? { cursor } : {}) };
    if (this.room) return ["join", { room: this.room, ...body }];
    if (this.view) body.view = this.view;
    if (this.durable) body.durable = true;
    return ["sub", { name: this.name, filter: this.#filter, ...body }];
  }

  /** The same for a URL; `parameter` is what a cursor is called there. */
  query(parameter, cursor = this.last) {
    const begin = cursor ?? this.#begin ?? "latest";
    const isCursor = cursor || !/^(latest|earliest|-P.*|\d{4}-\d\d-\d\dT.*)$/.test(begin);
    const query = new URLSearchParams({ filter: this.#filter, [isCursor ? parameter : "from"]: begin });
    if (this.view) query.set("view", this.view);
    return query;
  }

  /**
   * Follows on the client's link once what came by the last one is used up: so what waits here has an end. A durable one has its
   * place kept from then on, so what is in hand must be done with, too.
   */
  resume() {
    const { link } = this.client;
    if (this.durable && this.#given) return;
    if (this.#state !== "idle" || !link || this.#queue.length > 0 || this.#rest !== null) return;
    this.#state = "opening";
    this.#link = link;
    link.follow(this);
  }

  /** The link is gone. */
  lost() {
    if (this.#state === "over") return;
    this.#state = "idle";
    this.#link = null;
    this.#makeRoom();
  }

  opened(link, ok) {
    if (link !== this.#link || this.#state !== "opening") return;
    if (ok.cursor !== null && typeof ok.cursor !== "string") throw new Error("a cursor is missing");
    this.#state = "live";
    this.#acknowledged = ok.cursor;
    this.last = ok.cursor ?? this.last;
    this.cursor ??= ok.cursor;
    if (ok.members) this.members = ok.members;
    this.#settleReady.resolve(ok);
  }

  refused(link, error) {
    if (link !== this.#link || error instanceof Lost) return;
    this.#state = "idle";
    this.#link = null;
    if (passes(error)) this.#resumeAfter(later(error.retryAfter));
    else this.end(error);
  }

  /** The server has ended it: it is another connection's now, or was removed. */
  ended(link, reason) {
    // One that is being opened is not the one that was ended.
    if (link === this.#link && this.#state === "live") this.end(new TurnpikeError(reason, "the server has ended it"));
  }

  /** Something was told; `prev` is what must have been told before it, if that is known. */
  take(link, kind, body, prev = { ev: body.prev, gap: body.from }[kind] ?? null) {
    if (link !== this.#link || this.#state !== "live") return;
    if (prev !== null && this.last !== null && prev !== this.last) {
      this.#missed(prev);
      return;
    }
    const cursor = kind === "gap" ? body.to : body.cursor;
    if (typeof cursor !== "string") throw new Error("a cursor is missing");
    if (kind === "ev" && !body.event) throw new Error("an event is missing");
    this.last = cursor;
    if (kind === "cursor") {
      this.#moved(cursor);
      return;
    }
    this.#failures = 0;
    const { sub: _, ...told } = body;
    this.#give({ kind: { ev: "event", caught_up: "caught-up" }[kind] ?? kind, ...told, cursor });
    // A server that sends more than it may is read again later, too.
    if (this.#queue.length >= this.credit + MOST_WORDS) this.#leave();
  }

  /** For what can be held back: waits while the queue is full. */
  space() {
    if (this.#queue.length < this.credit || this.#state !== "live") return undefined;
    return new Promise((resolve) => (this.#roomy = resolve));
  }

  acknowledge() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    this.#unacknowledged = 0;
    if (this.#state !== "live" || this.cursor === this.#acknowledged) return;
    this.#acknowledged = this.cursor;
    this.#link.acknowledge(this, this.cursor);
  }

  end(error) {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#link = null;
    clearTimeout(this.#rest);
    clearTimeout(this.#ackTimer);
    this.signal?.removeEventListener("abort", this.#abort);
    this.#makeRoom();
    this.client.forget(this);
    this.#settleReady.reject(error ?? new TurnpikeError("closed", "it was closed"));
    const waiters = this.#waiters.splice(0);
    if (error && waiters.length > 0) waiters.shift().reject(error);
    else this.#error = error;
    for (const waiter of waiters) waiter.resolve({ value: undefined, done: true });
  }

  /** A link of the chain isn't there: said, and read again from the last one that is. */
  #missed(got) {
    this.#give({ kind: "missed", expected: this.last, got, cursor: this.last });
    this.#leave();
    this.#resumeAfter();
  }

  #leave() {
    const link = this.#link;
    this.#link = null;
    this.#state = "idle";
    link.unfollow(this);
  }

  #resumeAfter(after = null) {
    this.#rest = setTimeout(() => {
      this.#rest = null;
      this.resume();
    }, pause(this.#failures++, this.client.backoff, after));
  }

  /** Nothing but the place has changed. */
  #moved(cursor) {
    const before = this.#queue.at(-1) ?? this.#given;
    if (before) before.place = cursor;
    else this.cursor = cursor;
  }

  #give(told) {
    const item = { told, place: told.cursor };
    const waiter = this.#waiters.shift();
    if (!waiter) {
      this.#queue.push(item);
      return;
    }
    this.#given = item;
    waiter.resolve({ value: told, done: false });
  }

  /** What was given is done with. */
  #done() {
    if (!this.#given) return;
    this.cursor = this.#given.place;
    this.#given = null;
    this.#unacknowledged += 1;
    if (this.#unacknowledged >= this.credit / 4) this.acknowledge();
    else this.#ackTimer ??= setTimeout(() => this.acknowledge(), 200);
  }

  #makeRoom() {
    this.#roomy?.();
    this.#roomy = null;
  }
}

/** A room that one is in: a subscription to what happens there. */
export class Room extends Subscription {
  /** Who was there at joining; who comes and goes is told as JOINED and LEFT. */
  members = [];

  publish(event, data, options = {}) {
    return this.client.publish({ queue: "ROOMS", event, subject: this.room, data, ...options }, options);
  }

  leave() {
    this.close();
  }
}
