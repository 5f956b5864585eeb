// A link over a WebSocket, subprotocol turnpike.v1: frames out, frames in, and whether the other side still lives.

import { Lost, TurnpikeError, later } from "./failure.js";
import { OPENING } from "./stream.js";

const SUBPROTOCOL = "turnpike.v1";
/** What subscriptions are told; other frames are of a later protocol. */
const TOLD = ["ev", "gap", "caught_up", "cursor"];
const FINAL = { 4501: "unauthenticated", 4502: "too-large", 4503: "version" };

const refused = ({ code, detail, retry_after: wait }) =>
  new TurnpikeError(code, detail, { after: wait > 0 ? later(wait * 1_000) : null });

export class SocketLink {
  transport = "websocket";
  #client; #socket; #asked = new Map(); #lastId = 0; #pingEvery = 25_000; #timer; #goaway = null; #welcomed; #end; #over = false;

  /** One that was welcomed. */
  static open(client) {
    return new Promise((resolve, reject) => {
      const link = new SocketLink(client, resolve);
      link.ended.then(reject);
    });
  }

  constructor(client, welcomed) {
    this.#client = client;
    this.#welcomed = welcomed;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#timer = setTimeout(() => this.lose(new Lost("no welcome in time")), OPENING);
    this.#begin().catch((error) => this.lose(new Lost(String(error.message ?? error), { blocked: true })));
  }

  async #begin() {
    const [headers, token] = await Promise.all([this.#client.headers(), this.#client.token()]);
    if (this.#over) return;
    const socket = this.#client.socket(`${this.#client.base.replace(/^http/, "ws")}/ws`, SUBPROTOCOL, headers);
    this.#socket = socket;
    const hello = { v: 1, ...(token ? { token } : {}), ...(this.#client.name ? { client: this.#client.name } : {}) };
    socket.onopen = () => socket.send(JSON.stringify({ hello }));
    socket.onmessage = ({ data }) => this.#heard(data);
    // Some runtimes close nothing that never stood; where a close comes, too, it says more.
    socket.onerror = () => setTimeout(() => this.lose(new Lost("the connection failed")));
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  /** From 4500 to 4999 whoever came again would be closed again. */
  #closed(code, reason) {
    const said = reason || `closed with ${code}`;
    const goaway = this.#goaway;
    if (code >= 4500 && code <= 4999) this.lose(new TurnpikeError(FINAL[code] ?? "protocol", said, { closeCode: code }));
    else if (goaway?.retry === false) this.lose(new TurnpikeError("goaway", goaway.reason));
    else this.lose(new Lost(said, { after: goaway?.after_ms ?? null }));
  }

  #heard(text) {
    if (this.#over) return;
    this.#watch();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.lose(new Lost("a frame that is no JSON"));
      return;
    }
    const { id, ...rest } = frame;
    const [[kind, body]] = Object.entries(rest);
    if (kind === "welcome") {
      this.#pingEvery = body.ping_ms;
      this.#watch();
      this.#welcomed(this);
    } else if (kind === "goaway") this.#goaway = body;
    else if (kind === "ok") this.#answered(id, null, body);
    else if (kind === "error") this.#answered(id, refused(body), null);
    else if (kind === "ended") this.#client.subscription(body.sub)?.ended(this, body.reason);
    else if (TOLD.includes(kind)) this.#client.subscription(body.sub)?.take(this, kind, body);
  }

  /** At once, not a microtask later: the next frame may be of the subscription that this one answers. */
  #answered(id, error, ok) {
    const settle = this.#asked.get(id);
    this.#asked.delete(id);
    settle?.(error, ok);
  }

  /** A browser doesn't tell of the server's pings, so who hears nothing has to ask. */
  #watch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // Whatever the answer is: somebody is there.
      this.ask("ping", {}, () => {});
      this.#timer = setTimeout(() => this.lose(new Lost("nothing was heard")), Math.min(this.#pingEvery, OPENING));
    }, this.#pingEvery * 1.2);
  }

  /** `body`: an object, or its JSON. `settle(error, ok)` is called with the answer, or that the link is lost. */
  ask(verb, body, settle) {
    const id = ++this.#lastId;
    this.#asked.set(id, settle);
    this.#send(`{"id":${id},"${verb}":${typeof body === "string" ? body : JSON.stringify(body)}}`);
  }

  #send(text) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  follow(subscription) {
    const [verb, body] = subscription.wish();
    this.ask(verb, body, (error, ok) => (error ? subscription.refused(this, error) : subscription.opened(this, ok)));
  }

  unfollow({ name, room }) {
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
