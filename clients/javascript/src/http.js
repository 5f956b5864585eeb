// A link over plain HTTP, where no WebSocket gets through: a stream or polls for each subscription, a request for each
// publish. What holds a connection's state, rooms and durable subscriptions, isn't there.

import { json, lostBy, refusal } from "./answer.js";
import { Lost, TurnpikeError, later } from "./failure.js";
import { readStream } from "./stream.js";

/** How long long-polling goes on before a better way is tried, in ms. */
const BEST_BEFORE = 600_000;
/** How long a poll and a question may take, in ms; the broker answers polls after 25 s. */
const WITHIN = 40_000;
/** How long a publish that waits for others may take: the broker answers it within 60 s. */
const WITHIN_DELIVERED = 90_000;

export class HttpLink {
  #client; #following = new Map(); #over = false; #timer; #end; #turn = Promise.resolve();

  constructor(client, transport) {
    this.#client = client;
    this.transport = transport;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    const better = () => this.lose(new Lost("time for a better way", { after: [0] }));
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
      if (isLinks(error)) this.lose(error);
      else subscription.refused(this, error);
    });
  }

  async #stream(subscription, signal) {
    const request = (options, take) => this.#client.request(`/events?${subscription.query("last_event_id")}`, options, take);
    let isOpen = false;
    const block = ({ event, data }) => {
      const body = JSON.parse(data);
      // So a gateway says that the broker is gone.
      if (event === "error") throw new Lost(body.detail ?? "the stream broke off");
      if (!isOpen) {
        isOpen = true;
        this.#client.ways.passed("sse");
        subscription.opened(this, { cursor: body.cursor, replaying: null });
      } else subscription.take(this, event === "event" ? "ev" : event, body);
      return subscription.space();
    };
    const retry = await readStream(request, { signal, within: this.#client.openWithin, block });
    throw new Lost("the stream has ended", { after: later(retry) });
  }

  async #poll(subscription, signal) {
    let cursor = subscription.last;
    if (cursor) subscription.opened(this, { cursor, replaying: null });
    for (let replay = true; !signal.aborted; ) {
      const query = subscription.query("cursor", cursor);
      query.set("limit", Math.min(subscription.credit, 1_000));
      // Its place at once: who is cut off before the first event goes on from there.
      query.set("wait", cursor ? (replay ? "500ms" : "25s") : "0s");
      const { events, gap, end, isCaughtUp } = await this.#client.request(`/events?${query}`, { signal, within: WITHIN }, polled);
      if (cursor === null) subscription.opened(this, { cursor: gap || events.length > 0 ? null : end, replaying: null });
      // Nothing here proves by `prev` that nothing is missing: each answer begins where the last one ended.
      if (gap) subscription.take(this, "gap", gap, null);
      for (const told of events) {
        if (signal.aborted) return;
        subscription.take(this, "ev", { ...told, prev: subscription.last, replay });
        await subscription.space();
      }
      const caughtUp = replay && isCaughtUp;
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

  /** Streams and polls show by themselves that they live. */
  probe() {}

  ask(verb, body, settle) {
    if (verb === "presence") this.#ask(`/presence?users=${body.users.map(encodeURIComponent).join(",")}`, {}, settle);
    else if (verb === "members") this.#ask(`/rooms/${body.room.split("/").map(encodeURIComponent).join("/")}`, {}, settle);
    else this.#publish(JSON.parse(body), settle);
  }

  /** In order, as on a WebSocket; what waits for others holds up none. */
  #publish({ confirm = "stored", ...event }, settle) {
    const waits = confirm.startsWith("delivered");
    const type = `turnpike.${event.queue}.${event.event}`.toLowerCase();
    const options = {
      method: "POST",
      headers: { "content-type": "application/cloudevents+json" },
      body: JSON.stringify({ specversion: "1.0", source: "/client", type, ...event }),
      within: waits ? WITHIN_DELIVERED : WITHIN,
    };
    const send = () => this.#ask(`/events?confirm=${encodeURIComponent(confirm)}`, options, settle);
    if (waits) send();
    else this.#turn = this.#turn.then(send);
  }

  async #ask(path, options, settle) {
    if (this.#over) {
      settle(new Lost("closed"), null);
      return;
    }
    const take = async (answer) => {
      if (!answer.ok) throw await refusal(answer);
      return json(answer);
    };
    try {
      const ok = await this.#client.request(path, { within: WITHIN, ...options }, take);
      settle(null, ok);
    } catch (error) {
      if (isLinks(error)) this.lose(error);
      settle(isLinks(error) ? Lost.of(error) : error, null);
    }
  }

  lose(error) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    for (const control of this.#following.values()) control.abort();
    if (error.blocked) this.#client.ways.blocked(this.transport);
    this.#end(error instanceof TurnpikeError ? error : Lost.of(error));
  }

  close() {
    this.lose(new Lost("closed"));
  }
}

/** Whether it is no answer to what was asked: nobody was reached, or who asks isn't known. */
const isLinks = (error) => !(error instanceof TurnpikeError) || error.code === "unauthenticated";

async function polled(answer) {
  if (!answer.ok) throw await lostBy(answer);
  const { events = [], gap = null, cursor } = answer.status === 204 ? {} : await json(answer);
  const end = cursor ?? answer.headers.get("turnpike-cursor");
  // Another site's page is told of no header field that the gateway doesn't expose.
  if (!end) throw new TurnpikeError("protocol", "a poll's answer says not where to go on: turnpike-cursor is missing");
  return { events, gap, end, isCaughtUp: answer.headers.get("turnpike-caught-up") === "true" };
}
