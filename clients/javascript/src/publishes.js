// Publishes that are not confirmed yet. Each is sent until it is answered, always under the same id: the broker knows what
// it has recorded already.

import { Lost, TurnpikeError, later, pause, passes } from "./failure.js";

/** Those that wait for their turn or their answer; more are refused. */
const MOST = 1_024;
/** Those that are on their way; the broker takes 64. */
const MOST_IN_FLIGHT = 32;
/** A frame has at most 1 MiB, with what is around the event. */
const MOST_BYTES = 1_048_000;
/** Timers know no longer time, in ms. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** An id of an event that has none. Not every page and runtime has `randomUUID`. */
function newId() {
  const part = () => Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
  return globalThis.crypto?.randomUUID?.() ?? part() + part() + part() + part();
}

export class Publishes {
  #waiting = new Set(); #link = null; #inFlight = 0; #backoff;

  constructor(backoff) {
    this.#backoff = backoff;
  }

  /** Kept when the event is confirmed, broken when it is refused, given up or not confirmed in time. */
  async add({ queue, event, subject, key, data, id = newId(), confirm }, { timeout = 60_000, signal }) {
    const refuse = (code, message) => new TurnpikeError(code, message, { id });
    if (this.#waiting.size >= MOST) throw refuse("too-many", `${MOST} events wait already`);
    const body = JSON.stringify({ queue, event, id, subject, partitionkey: key, data, confirm });
    if (new TextEncoder().encode(body).length > MOST_BYTES) throw refuse("too-large", "an event has at most 1 MiB");
    const tells = "it may be recorded or not: the same id tells";
    if (signal?.aborted) throw refuse("aborted", "it was not begun");
    const publish = { id, body, state: "waits", failures: 0, putOff: null, unsure: false };
    const answered = new Promise((resolve, reject) => Object.assign(publish, { resolve, reject }));
    // What was refused for now is known not to be recorded, unless it was sent once without an answer that tells.
    const late = () => this.#settle(publish, (publish.unsure ? null : publish.putOff) ?? refuse("timeout", tells));
    const abort = () => this.#settle(publish, refuse("aborted", tells));
    publish.late = setTimeout(late, Math.min(timeout, LONGEST_TIMER));
    signal?.addEventListener("abort", abort);
    this.#waiting.add(publish);
    this.#flush();
    try {
      return await answered;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** There is a link: what waits is sent, oldest first. */
  on(link) {
    this.#link = link;
    this.#flush();
  }

  /** The link is gone, and with it what was on its way: none of that is known to be recorded. */
  lost() {
    this.#link = null;
    this.#inFlight = 0;
    for (const publish of this.#waiting) {
      if (publish.state === "sent") Object.assign(publish, { state: "waits", unsure: true });
    }
  }

  /** Nothing is sent any more. */
  end({ code, message }) {
    for (const publish of this.#waiting) this.#settle(publish, new TurnpikeError(code, message));
  }

  #flush() {
    const link = this.#link;
    if (!link) return;
    for (const publish of this.#waiting) {
      if (this.#inFlight >= MOST_IN_FLIGHT) return;
      if (publish.state !== "waits") continue;
      Object.assign(publish, { state: "sent", putOff: null });
      this.#inFlight += 1;
      link.ask("pub", publish.body, (error, receipt) => {
        if (link !== this.#link || error instanceof Lost) return;
        this.#inFlight -= 1;
        if (error && passes(error)) this.#rest(publish, error);
        else this.#settle(publish, error, receipt);
        this.#flush();
      });
    }
  }

  /** The bus is away for a moment, the node has too much to bear, the queue is full. */
  #rest(publish, error) {
    if (!this.#waiting.has(publish)) return;
    Object.assign(publish, { state: "rests", putOff: error });
    // The bus may have been lost with the answer.
    publish.unsure ||= error.code === "unavailable";
    const rested = () => {
      publish.state = "waits";
      this.#flush();
    };
    publish.rest = setTimeout(rested, pause(publish.failures++, this.#backoff, later(error.retryAfter)));
  }

  #settle(publish, error, receipt) {
    clearTimeout(publish.late);
    clearTimeout(publish.rest);
    this.#waiting.delete(publish);
    if (error) publish.reject(Object.assign(error, { id: publish.id }));
    else publish.resolve(receipt);
  }
}
