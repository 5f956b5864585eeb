// Server-sent events by `fetch`: an EventSource doesn't say with which status it was turned away, sends no header fields
// and doesn't notice a connection that is dead.

import { MOST_CHARACTERS, lostBy } from "./answer.js";
import { Lost, TurnpikeError, later, pause } from "./failure.js";

/** How long a connection may take to stand, and a stream to say its first word, in ms. */
export const OPENING = 10_000;
/** How long a stream may be silent: Turnpike says every 15 s that it lives. */
const SILENCE = 40_000;

/** One stream from its request to its end. `block` is given each event and may take its time. Gives `retry`, if it was said. */
export async function readStream(request, { signal, within = OPENING, silence = SILENCE, block }) {
  const reading = new AbortController();
  const stop = () => reading.abort();
  signal.addEventListener("abort", stop);
  let timer;
  let silent = false;
  let heard = false;
  const listen = (most) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      silent = true;
      reading.abort();
    }, most);
  };
  const read = async (answer) => {
    if (!answer.ok) throw await lostBy(answer);
    if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) throw new Lost("no stream", { blocked: true });
    const body = answer.body.getReader();
    const text = new TextDecoder();
    let rest = "";
    let retry;
    for (;;) {
      const { done, value } = await body.read();
      if (done) return retry;
      // Who takes long over an event is no dead connection.
      clearTimeout(timer);
      heard = true;
      rest += text.decode(value, { stream: true });
      for (let end; (end = rest.indexOf("\n\n")) >= 0; ) {
        const told = parse(rest.slice(0, end));
        rest = rest.slice(end + 2);
        retry = told.retry ?? retry;
        if (told.data !== null) await block(told);
        if (signal.aborted) throw new Lost("given up");
      }
      if (rest.length > MOST_CHARACTERS) throw new Lost("an event without an end");
      listen(silence);
    }
  };
  try {
    if (signal.aborted) throw new Lost("given up");
    listen(Math.min(within, silence));
    return await request({ headers: { accept: "text/event-stream" }, signal: reading.signal }, read);
  } catch (error) {
    if (error instanceof TurnpikeError || error instanceof Lost) throw error;
    throw silent ? new Lost("nothing was heard", { blocked: !heard }) : Lost.of(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    reading.abort();
  }
}

function parse(block) {
  const told = { event: "message", data: null, id: null, retry: null };
  for (const line of block.split("\n")) {
    const [, field, content] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "retry") told.retry = Number(content);
    else if (field === "data") told.data = told.data === null ? content : `${told.data}\n${content}`;
    else if (field === "event" || field === "id") told[field] = content;
  }
  return told;
}

/** A stream that comes again by itself, from where it was. */
export class EventStream {
  #url; #options; #reading = null; #timer; #attempt = 0;

  constructor(url, options) {
    this.#url = url;
    this.#options = { first: 250, most: 10_000, state() {}, lastEventId: () => null, ...options };
  }

  /** Whether it is being read or asked for, not waiting for its next attempt nor turned away. */
  get reading() {
    return this.#reading !== null;
  }

  /** Begins, or begins again at once. */
  open() {
    this.close();
    this.#attempt = 0;
    this.#read();
  }

  /** Ends what was begun; another attempt comes after a pause. */
  interrupt(reason) {
    this.close();
    this.#lost(new Lost(reason));
  }

  close() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    this.#reading = null;
  }

  async #read() {
    const reading = new AbortController();
    const current = () => reading === this.#reading;
    this.#reading = reading;
    const { block, state, lastEventId, silence, first } = this.#options;
    const request = async ({ headers, signal }, take) => {
      const last = lastEventId();
      const all = last ? { ...headers, "last-event-id": last } : headers;
      return take(await fetch(this.#url, { headers: all, signal, cache: "no-store", credentials: "same-origin" }));
    };
    const taken = (told) => {
      if (!current()) return undefined;
      const answer = block(told);
      this.#attempt = 0;
      state("live", "");
      return answer;
    };
    try {
      const retry = await readStream(request, { signal: reading.signal, silence, block: taken });
      // The server ends a stream now and then; that is no fault.
      if (current()) this.#lost(new Lost("the stream has ended", { after: later(retry ?? first) }));
    } catch (error) {
      if (current()) this.#failed(error);
    }
  }

  #failed(error) {
    if (![401, 403].includes(error.status)) {
      this.#lost(Lost.of(error));
      return;
    }
    this.#reading = null;
    this.#options.state("refused", error.message, error.status);
  }

  #lost({ message, after }) {
    this.#reading = null;
    this.#options.state("reconnecting", message);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#read(), pause(this.#attempt++, this.#options, after));
  }
}
