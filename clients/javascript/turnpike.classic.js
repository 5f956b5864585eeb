// Turnpike for browsers and every other JavaScript: docs/clients.md. Made of clients/javascript/src by build.mjs.

var Turnpike = (() => {
"use strict";

// What can go wrong, and when to try again.

/** What a server may ask for, in ms; then it is asked again. */
const LONGEST = 3_600_000;

/** Something was refused or is over. Programs go by `code`, people read `message`. */
class TurnpikeError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    Object.assign(this, { name: "TurnpikeError", code }, more);
  }
}

/** The connection is gone, and another one goes on: after so many ms, [least, most], if it was the server that sent it away. */
class Lost extends Error {
  constructor(message, { after = null, blocked = false } = {}) {
    super(message);
    Object.assign(this, { name: "Lost", after, blocked });
  }

  static of(error) {
    if (error instanceof Lost) return error;
    return new Lost(String(error?.message ?? error), { after: later(error?.retryAfter) });
  }
}

/** Whether it may be otherwise in a while: what the broker says when to try again, and that the bus is away. */
const passes = ({ code, retryAfter }) => code === "unavailable" || retryAfter !== undefined;

const random = (least, most) => least + Math.random() * (most - least);

/** Full jitter: any time up to twice as much each time, and not before the server wants to see it: some time in that range. */
function pause(attempt, { first, most }, after = null) {
  const own = random(0, Math.min(most, first * 2 ** Math.min(attempt, 30)));
  const [least = 0, latest = least] = (after ?? [0]).map((wait) => (wait > 0 ? Math.min(wait, LONGEST) : 0));
  return Math.max(own, random(least, Math.max(least, latest)));
}

/** Not before this many ms, and not all at once. */
const later = (wait) => (wait === undefined ? null : [wait, wait * 1.5]);

// What is answered to a request.


/** Characters of a frame, an event of a stream, an answer: no broker sends that many. */
const MOST_CHARACTERS = 4_000_000;

/** The JSON of an answer. */
async function json(answer) {
  const body = answer.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await body.read();
    if (done) return JSON.parse(text);
    text += decoder.decode(value, { stream: true });
    if (text.length > MOST_CHARACTERS) throw new Lost("an answer without an end");
  }
}

/** What an answer says that isn't well. */
async function refusal(answer) {
  const { status } = answer;
  const problem = (await json(answer).catch(() => null)) ?? {};
  // Who stands between and finds nobody says it in its own words.
  const isAway = [408, 425, 502, 503, 504].includes(status);
  const code = isAway ? "unavailable" : String(problem.type ?? `http-${status}`).split("/").pop();
  const wait = Number(answer.headers.get("retry-after")) * 1_000;
  const message = String(problem.detail ?? `the server answers ${status}`);
  return new TurnpikeError(code, message, { status, retryAfter: wait > 0 ? wait : undefined });
}

/** What an answer means for the link: who is away or not well now is only lost. */
async function lostBy(answer) {
  const error = await refusal(answer);
  return error.status >= 500 || passes(error) ? Lost.of(error) : error;
}

// Server-sent events by `fetch`: an EventSource doesn't say with which status it was turned away, sends no header fields
// and doesn't notice a connection that is dead.


/** How long a connection may take to stand, and a stream to say its first word, in ms. */
const OPENING = 10_000;
/** How long a stream may be silent: Turnpike says every 15 s that it lives. */
const SILENCE = 40_000;

/** One stream from its request to its end. `block` is given each event and may take its time. Gives `retry`, if it was said. */
async function readStream(request, { signal, within = OPENING, silence = SILENCE, block }) {
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
class EventStream {
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

// A link over a WebSocket, subprotocol turnpike.v1: frames out, frames in, and whether the other side still lives.


const SUBPROTOCOL = "turnpike.v1";
/** What subscriptions are told; frames of other kinds are of a later protocol. */
const TOLD = ["ev", "gap", "caught_up", "cursor"];
const FINAL = { 4501: "unauthenticated", 4502: "too-large", 4503: "version" };

class SocketLink {
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

// A link over plain HTTP, where no WebSocket gets through: a stream or polls for each subscription, a request for each
// publish. What holds a connection's state, rooms and durable subscriptions, isn't there.


/** How long long-polling goes on before a better way is tried, in ms. */
const BEST_BEFORE = 600_000;
/** How long a poll and a question may take, in ms; the broker answers polls after 25 s. */
const WITHIN = 40_000;
/** How long a publish that waits for others may take: the broker answers it within 60 s. */
const WITHIN_DELIVERED = 90_000;

class HttpLink {
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

// What is followed. It outlives every link: it knows after what it was told last, and goes on from there on the next one.


const DEFAULT_CREDIT = 256;
/** Gaps and the like that may wait beside the events that the credit allows. */
const MOST_WORDS = 64;

/** An async iterator of what is told. What was given last counts as done with when the next is asked for. */
class Subscription {
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
class Room extends Subscription {
  /** Who was there at joining; who comes and goes is told as JOINED and LEFT. */
  members = [];

  publish(event, data, options = {}) {
    return this.client.publish({ queue: "ROOMS", event, subject: this.room, data, ...options }, options);
  }

  leave() {
    this.close();
  }
}

// Publishes that are not confirmed yet. Each is sent until it is answered, always under the same id: the broker knows what
// it has recorded already.


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

class Publishes {
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

// Which way a client goes: a WebSocket where it passes, else a stream, else polls; the first of those it may go by.


/** How long a way that is blocked is not tried again, in ms. */
const AVOIDED = 600_000;

class Ways {
  #client; #transports; #Socket; #strikes = { websocket: 0, sse: 0 }; #avoided = {}; #opening = null;

  constructor(client, { transports = ["websocket", "sse", "long-poll"], WebSocket = globalThis.WebSocket }) {
    this.#client = client;
    this.#transports = transports.filter((way) => way !== "websocket" || WebSocket);
    this.#Socket = WebSocket;
  }

  /** A link by the best way that is not blocked; where all are, they are tried again. */
  async open() {
    if (this.#transports.length === 0) throw new TurnpikeError("not-supported", "there is no WebSocket here");
    const open = this.#transports.filter((way) => !(this.#avoided[way] > Date.now()));
    const [way, ...others] = open.length > 0 ? open : this.#transports;
    if (way === "websocket") {
      const link = await this.#socketLink(others.length > 0);
      if (link) return link;
      this.#avoid(way);
      return new HttpLink(this.#client, others[0]);
    }
    await this.#reach("/events");
    return new HttpLink(this.#client, way);
  }

  /** Ends what is being opened. */
  close() {
    this.#opening?.close();
  }

  passed(transport) {
    this.#strikes[transport] = 0;
  }

  /** Something on the way doesn't let this transport pass: the second time it is left alone for a while. */
  blocked(transport) {
    this.#strikes[transport] += 1;
    if (this.#strikes[transport] >= 2) this.#avoid(transport);
  }

  /** Browsers send no header fields with a WebSocket; node, bun and deno take them so, the package `ws` as a third argument. */
  socket(url, protocol, headers) {
    const Socket = this.#Socket;
    if (Object.keys(headers).length === 0) return new Socket(url, protocol);
    return Socket.Server ? new Socket(url, protocol, { headers }) : new Socket(url, { protocols: [protocol], headers });
  }

  /** Null: no WebSocket gets through, and the broker would take one. */
  async #socketLink(mayFallBack) {
    try {
      return await this.#dial();
    } catch (error) {
      if (!mayFallBack || !(error instanceof Lost) || error.after) throw error;
      this.#strikes.websocket += 1;
      if (this.#strikes.websocket < 2 && !error.blocked) throw error;
      // A server that is away, or takes nobody now, is no way that is blocked; nor is one that has just come back.
      await this.#reach("/ws");
      if (error.blocked) return null;
    }
    return this.#dial().catch((error) => {
      if (!(error instanceof Lost) || error.after) throw error;
      return null;
    });
  }

  async #dial() {
    this.#opening = new SocketLink(this.#client);
    const link = await this.#opening.opened;
    this.passed("websocket");
    return link;
  }

  /** Sees whether plain HTTP gets through: to a question that lacks something the broker says what. */
  async #reach(path) {
    const take = async (answer) => {
      if (answer.status !== 400) throw await lostBy(answer);
    };
    await this.#client.request(path, { within: this.#client.openWithin }, take).catch((error) => {
      throw error instanceof TurnpikeError ? error : Lost.of(error);
    });
  }

  #avoid(transport) {
    this.passed(transport);
    this.#avoided[transport] = Date.now() + AVOIDED;
  }
}

// A client: one link at a time, and another one whenever it is lost.


/** A link that stood so long was a good one, in ms. */
const SETTLED = 10_000;

/** A connection to a broker that goes on by itself. It begins at once. */
class Client {
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

return { Client, EventStream, Room, Subscription, TurnpikeError };
})();
