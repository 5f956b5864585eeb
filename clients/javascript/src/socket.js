// A link over a WebSocket, subprotocol turnpike.v1: frames out, frames in, and whether the other side still lives.

import { MOST_CHARACTERS } from "./answer.js";
import { Lost, TurnpikeError } from "./failure.js";

const SUBPROTOCOL = "turnpike.v1";
/** What subscriptions are told; frames of other kinds are of a later protocol. */
const TOLD = ["ev", "gap", "caught_up", "cursor"];
const FINAL = { 4501: "unauthenticated", 4502: "too-large", 4503: "version" };

export class SocketLink {
  transport = "websocket";
  #client; #socket; #asked = new Map(); #lastId = 0; #pingEvery; #timer; #goaway = null; #welcomed; #end; #over = false;

  constructor(client) {
    this.#client = client;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    /** That it was welcomed; or why not. */
    this.opened = new Promise((resolve, reject) => {
      this.#welcomed = () => resolve(this);
      this.ended.then(reject);
    });
    this.#timer = setTimeout(() => this.lose(new Lost("no welcome in time")), client.openWithin);
    this.#begin().catch((error) => this.lose(Lost.of(error)));
  }

  async #begin() {
    const [headers, token] = await Promise.all([this.#client.headers(), this.#client.token()]);
    if (this.#over) return;
    try {
      this.#socket = this.#client.ways.socket(`${this.#client.base.replace(/^http/, "ws")}/ws`, SUBPROTOCOL, headers);
    } catch (error) {
      throw new Lost(String(error.message), { blocked: true });
    }
    const hello = { v: 1, ...(token && { token }), ...(this.#client.name && { client: this.#client.name }) };
    this.#socket.onopen = () => this.#send(JSON.stringify({ hello }));
    this.#socket.onmessage = ({ data }) => this.#heard(data);
    // Some runtimes close nothing that never stood; where a close comes, too, it says more.
    this.#socket.onerror = () => setTimeout(() => this.lose(new Lost("the connection failed")));
    this.#socket.onclose = ({ code, reason }) => this.#closed(code, reason || `closed with ${code}`);
  }

  /** From 4500 to 4999 whoever came again would be closed again. */
  #closed(code, reason) {
    const { retry, reason: why, after_ms: after } = this.#goaway ?? {};
    if (code >= 4500 && code <= 4999) this.lose(new TurnpikeError(FINAL[code] ?? "protocol", reason));
    else if (retry === false) this.lose(new TurnpikeError("goaway", String(why)));
    else this.lose(new Lost(reason, { after: Array.isArray(after) ? after : code >= 4000 ? [0] : null }));
  }

  #heard(text) {
    if (this.#over) return;
    try {
      if (typeof text !== "string") throw new Error("it is no text");
      if (text.length > MOST_CHARACTERS) throw new Error("it is too large");
      this.#take(JSON.parse(text));
    } catch (error) {
      this.lose(new Lost(`a frame can't be read: ${error.message}`));
    }
  }

  #take({ id, ...rest }) {
    const [[kind, body]] = Object.entries(rest);
    if (kind === "welcome") {
      // Of a time that timers know.
      this.#pingEvery = Math.min(Math.max(Number(body.ping_ms) || 0, 100), 300_000);
      this.#welcomed();
    } else if (kind === "goaway") {
      this.#goaway = body;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#closed(0, "nothing was heard"), this.#client.openWithin);
    } else if (kind === "ok") this.#answered(id, null, body);
    else if (kind === "error") {
      const wait = body.retry_after > 0 ? body.retry_after * 1_000 : undefined;
      this.#answered(id, new TurnpikeError(String(body.code), String(body.detail), { retryAfter: wait }));
    } else if (kind === "ended") this.#client.subscription(body.sub)?.ended(this, String(body.reason));
    else if (TOLD.includes(kind)) this.#client.subscription(body.sub)?.take(this, kind, body);
    if (this.#pingEvery && !this.#goaway) this.#watch();
  }

  /** At once, not a microtask later: the next frame may be of the subscription that this one answers. */
  #answered(id, error, ok = null) {
    const settle = this.#asked.get(id);
    this.#asked.delete(id);
    settle?.(error, ok);
  }

  /** A browser doesn't tell of the server's pings, so who hears nothing has to ask. */
  #watch() {
    clearTimeout(this.#timer);
    if (!this.#over) this.#timer = setTimeout(() => this.probe(), this.#pingEvery * 1.2);
  }

  /** Asks whether somebody is there. */
  probe() {
    if (this.#over || this.#goaway) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.lose(new Lost("nothing was heard")), Math.min(this.#pingEvery, this.#client.openWithin));
    // Whatever the answer is.
    this.ask("ping", {}, () => {});
  }

  /** `body`: an object, or its JSON. `settle(error, ok)` is called with the answer, or that the link is lost. */
  ask(verb, body, settle) {
    const id = ++this.#lastId;
    if (this.#over) settle(new Lost("closed"), null);
    else this.#asked.set(id, settle);
    this.#send(`{"id":${id},"${verb}":${typeof body === "string" ? body : JSON.stringify(body)}}`);
    return id;
  }

  #send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  follow(subscription) {
    const [verb, body] = subscription.wish();
    const settle = (error, ok) => (error ? subscription.refused(this, error) : subscription.opened(this, ok));
    subscription.asked = this.ask(verb, body, settle);
  }

  unfollow({ name, room, asked }) {
    // Who leaves before it was let in may not be answered.
    this.#asked.delete(asked);
    this.ask(room ? "leave" : "unsub", room ? { room } : { sub: name }, () => {});
  }

  acknowledge({ name }, cursor) {
    this.#send(JSON.stringify({ ack: { sub: name, cursor } }));
  }

  /** It ends, whatever the socket thinks. */
  lose(error) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    try {
      // Not in order: who is taken for gone comes back.
      this.#socket?.close(3000, "lost");
    } catch { /* it never stood */ }
    for (const settle of this.#asked.values()) settle(Lost.of(error), null);
    this.#asked.clear();
    this.#end(error);
  }

  close() {
    this.#send('{"bye":{}}');
    this.lose(new Lost("closed"));
  }
}
