// A link over plain HTTP, where no WebSocket gets through: a stream or polls for each subscription, a request for each
// publish. What holds a connection's state, rooms and durable subscriptions, isn't there.

import { Lost, TurnpikeError, later, refusal } from "./failure.js";
import { readStream } from "./stream.js";

/** How long long-polling goes on before a better way is tried, in ms. */
const BEST_BEFORE = 600_000;
/** How long a poll and a publish may take: the broker answers both within 60 s. */
const WITHIN = 90_000;

export class HttpLink {
  #client; #following = new Map(); #over = false; #timer; #end;

  constructor(client, transport) {
    this.#client = client;
    this.transport = transport;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    const better = () => this.lose(new Lost("time for a better way", { after: [0, 0] }));
    if (transport === "long-poll") this.#timer = setTimeout(better, BEST_BEFORE);
  }

  follow(subscription) {
    if (subscription.room || subscription.durable) {
      const what = subscription.room ? "a room" : "a durable subscription";
      subscription.refused(this, new TurnpikeError("not-supported", `${what} needs a WebSocket, and none gets through`));
      return;
    }
    const control = new AbortController();
    this.#following.set(subscription, control);
    const way = this.transport === "sse" ? this.#stream : this.#poll;
    way.call(this, subscription, control.signal).catch((error) => {
      if (control.signal.aborted || this.#over) return;
      this.#following.delete(subscription);
      if (error instanceof TurnpikeError) subscription.refused(this, error);
      else this.lose(Lost.of(error));
    });
  }

  async #stream(subscription, signal) {
    const request = (options) => this.#client.request(`/events?${subscription.query("last_event_id")}`, options);
    let opened = false;
    const block = ({ event, data }) => {
      const body = JSON.parse(data);
      // So a gateway says that the broker is gone.
      if (event === "error") throw new Lost(body.detail ?? "the stream broke off");
      if (!opened) {
        opened = true;
        this.#client.passed("sse");
        subscription.opened(this, { cursor: body.cursor, replaying: null });
      } else subscription.take(this, event === "event" ? "ev" : event, body);
      return subscription.space();
    };
    const retry = await readStream(request, { signal, block });
    throw new Lost("the stream has ended", { after: retry === null ? null : later(retry) });
  }

  async #poll(subscription, signal) {
    let cursor = subscription.last;
    if (cursor) subscription.opened(this, { cursor, replaying: null });
    for (let replay = true; !signal.aborted; ) {
      const query = subscription.query("cursor", cursor);
      query.set("limit", Math.min(subscription.credit, 1_000));
      // Its place at once: who is cut off before the first event goes on from there.
      query.set("wait", cursor ? (replay ? "500ms" : "25s") : "0s");
      const answer = await this.#client.request(`/events?${query}`, { signal, within: WITHIN });
      if (!answer.ok) throw await refusal(answer);
      const { events = [], gap = null } = answer.status === 204 ? {} : await answer.json();
      const end = answer.headers.get("turnpike-cursor");
      if (cursor === null) subscription.opened(this, { cursor: gap || events.length > 0 ? null : end, replaying: null });
      // Nothing here proves by `prev` that nothing is missing: each answer begins where the last one ended.
      if (gap) subscription.take(this, "gap", gap, null);
      for (const told of events) {
        if (signal.aborted) return;
        subscription.take(this, "ev", { ...told, prev: subscription.last, replay });
        await subscription.space();
      }
      const caughtUp = replay && answer.headers.get("turnpike-caught-up") === "true";
      if (caughtUp) replay = false;
      if (caughtUp || events.length === 0) subscription.take(this, caughtUp ? "caught_up" : "cursor", { cursor: end });
      cursor = end;
    }
  }

  unfollow(subscription) {
    this.#following.get(subscription)?.abort();
    this.#following.delete(subscription);
  }

  /** What isn't read is held back by the connection itself. */
  acknowledge() {}

  async ask(verb, body, settle) {
    try {
      const answer = await this.#request(verb, body);
      if (!answer.ok) throw await refusal(answer);
      const ok = await answer.json();
      settle(null, ok);
    } catch (error) {
      // The bus may be away while the broker is there.
      const away = error instanceof Lost && new TurnpikeError("unavailable", error.message, { after: error.after });
      settle(error instanceof TurnpikeError ? error : away || Lost.of(error), null);
      if (!(error instanceof TurnpikeError) && !away) this.lose(Lost.of(error));
    }
  }

  #request(verb, body) {
    if (verb === "presence") return this.#client.request(`/presence?users=${body.users.map(encodeURIComponent).join(",")}`);
    if (verb === "members") return this.#client.request(`/rooms/${body.room}`);
    const { confirm = "stored", ...event } = JSON.parse(body);
    const type = `turnpike.${event.queue}.${event.event}`.toLowerCase();
    return this.#client.request(`/events?confirm=${encodeURIComponent(confirm)}`, {
      method: "POST",
      headers: { "content-type": "application/cloudevents+json" },
      body: JSON.stringify({ specversion: "1.0", source: "/client", type, ...event }),
      within: WITHIN,
    });
  }

  lose(error) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    for (const control of this.#following.values()) control.abort();
    if (error.blocked) this.#client.blocked("sse");
    this.#end(error);
  }

  close() {
    this.lose(new Lost("closed"));
  }
}
