// Publishes that are not confirmed yet. Each is sent until it is answered, always under the same id: the broker knows what
// it has recorded already.

import { Lost, TurnpikeError, pause } from "./failure.js";

/** Those that wait for their turn or their answer; more are refused. */
const MOST = 1_024;
/** Those that are on their way; the broker takes 64. */
const MOST_IN_FLIGHT = 32;
/** A frame has at most 1 MiB, with what is around the event. */
const MOST_BYTES = 1_048_000;

/** An id of an event that has none. Not every page and runtime has `randomUUID`. */
function newId() {
  const part = () => Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
  return globalThis.crypto?.randomUUID?.() ?? part() + part() + part() + part();
}

export class Publishes {
  #waiting = new Map(); #link = null; #inFlight = 0; #lastNumber = 0; #backoff;

  constructor(backoff) {
    this.#backoff = backoff;
  }

  /** Kept when the event is confirmed, broken when it is refused or not confirmed in time. */
  add({ queue, event, subject, key, data, id = newId(), confirm }, timeout) {
    const refuse = (code, message) => Promise.reject(new TurnpikeError(code, message, { id }));
    if (this.#waiting.size >= MOST) return refuse("too-many", `${MOST} events wait already`);
    const body = JSON.stringify({ queue, event, id, subject, partitionkey: key, data, confirm });
    if (new TextEncoder().encode(body).length > MOST_BYTES) return refuse("too-large", "an event has at most 1 MiB");
    const number = ++this.#lastNumber;
    return new Promise((resolve, reject) => {
      const late = () => this.#settle(publish, reject, new TurnpikeError("timeout", "it may be recorded or not: the same id tells", { id }));
      const publish = { number, id, body, resolve, reject, state: "waits", failures: 0, timer: setTimeout(late, timeout) };
      this.#waiting.set(number, publish);
      this.#flush();
    });
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
    for (const publish of this.#waiting.values()) if (publish.state === "sent") publish.state = "waits";
  }

  /** Nothing is sent any more. */
  end(code, message) {
    for (const publish of [...this.#waiting.values()]) {
      this.#settle(publish, publish.reject, new TurnpikeError(code, message, { id: publish.id }));
    }
  }

  #flush() {
    const link = this.#link;
    if (!link) return;
    for (const publish of this.#waiting.values()) {
      if (this.#inFlight >= MOST_IN_FLIGHT) return;
      if (publish.state !== "waits") continue;
      publish.state = "sent";
      this.#inFlight += 1;
      link.ask("pub", publish.body, (error, receipt) => {
        if (link !== this.#link || error instanceof Lost) return;
        this.#inFlight -= 1;
        if (error?.code === "unavailable") this.#again(publish, error.after);
        else if (error) this.#settle(publish, publish.reject, Object.assign(error, { id: publish.id }));
        else this.#settle(publish, publish.resolve, receipt);
        this.#flush();
      });
    }
  }

  /** The bus is away for a moment. */
  #again(publish, after = null) {
    publish.state = "rests";
    setTimeout(() => {
      publish.state = "waits";
      this.#flush();
    }, pause(publish.failures++, this.#backoff, after));
  }

  #settle(publish, by, value) {
    clearTimeout(publish.timer);
    this.#waiting.delete(publish.number);
    by(value);
  }
}
