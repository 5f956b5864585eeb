// Turnpike for browsers and every other JavaScript: docs/clients.md. Made of clients/javascript/src by build.mjs.

// What can go wrong, and when to try again.

/** Something was refused or is over. Programs go by `code`, people read `message`. */
class TurnpikeError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    Object.assign(this, { name: "TurnpikeError", code }, more);
  }
}

/** The connection is gone, and another one goes on: after so many ms, [least, most], if the server said so. */
class Lost extends Error {
  constructor(message, { after = null, blocked = false } = {}) {
    super(message);
    Object.assign(this, { name: "Lost", after, blocked });
  }

  static of(error) {
    return error instanceof Lost ? error : new Lost(String(error?.message ?? error));
  }
}

const random = (least, most) => least + Math.random() * (most - least);

/** Full jitter: anything up to twice as much each time; or what the server asks for. */
function pause(attempt, { first, most }, after = null) {
  return after ? random(...after) : random(0, Math.min(most, first * 2 ** Math.min(attempt, 30)));
}

/** Not before this many ms, and not all at once. */
const later = (wait) => [wait, wait * 1.5];

/** What an answer that isn't well says: what passes is `Lost`, the rest is refused. */
async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const code = problem.type?.split("/").pop() ?? `http-${answer.status}`;
  const message = problem.detail ?? `the server answers ${answer.status}`;
  const { status } = answer;
  const passes = status === 429 ? !["queue-full", "too-many"].includes(code) : [502, 503, 504].includes(status);
  const wait = Number(answer.headers.get("retry-after")) * 1_000;
  return passes ? new Lost(message, { after: wait > 0 ? later(wait) : null }) : new TurnpikeError(code, message, { status });
}

// Server-sent events by `fetch`: an EventSource doesn't say with which status it was turned away, sends no header fields
// and doesn't notice a connection that is dead.


/** How long a connection may take to stand, and a stream to say its first word, in ms. */
const OPENING = 10_000;
/** How long a stream may be silent: Turnpike says every 15 s that it lives. */
const SILENCE = 40_000;
/** Characters of one event. */
const MOST_CHARACTERS = 8_000_000;

/** One stream from its request to its end. `block` is given each event and may take its time. Gives `retry`, if it was said. */
async function readStream(request, { signal, silence = SILENCE, block }) {
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
  try {
    if (signal.aborted) throw new Lost("given up");
    listen(Math.min(OPENING, silence));
    const answer = await request({ headers: { accept: "text/event-stream" }, signal: reading.signal });
    if (!answer.ok) throw await refusal(answer);
    if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) throw new Lost("no stream", { blocked: true });
    const body = answer.body.getReader();
    const text = new TextDecoder();
    let rest = "";
    let retry = null;
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
    const request = ({ headers, signal }) => {
      const last = lastEventId();
      const all = last ? { ...headers, "last-event-id": last } : headers;
      return fetch(this.#url, { headers: all, signal, cache: "no-store", credentials: "same-origin" });
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
/** What subscriptions are told; other frames are of a later protocol. */
const TOLD = ["ev", "gap", "caught_up", "cursor"];
const FINAL = { 4501: "unauthenticated", 4502: "too-large", 4503: "version" };

const refused = ({ code, detail, retry_after: wait }) =>
  new TurnpikeError(code, detail, { after: wait > 0 ? later(wait * 1_000) : null });

class SocketLink {
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

// A link over plain HTTP, where no WebSocket gets through: a stream or polls for each subscription, a request for each
// publish. What holds a connection's state, rooms and durable subscriptions, isn't there.


/** How long long-polling goes on before a better way is tried, in ms. */
const BEST_BEFORE = 600_000;
/** How long a poll and a publish may take: the broker answers both within 60 s. */
const WITHIN = 90_000;

class HttpLink {
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

  constructor(client, name, filter, { cursor, credit = DEFAULT_CREDIT, view, durable = false, room = null } = {}) {
    Object.assign(this, { client, name, credit, view, durable, room });
    this.#filter = filter;
    this.#begin = cursor;
    /** That it follows, for the first time: `{ cursor, replaying }`. */
    this.ready = new Promise((resolve, reject) => Object.assign(this.#settleReady, { resolve, reject }));
    this.ready.catch(() => {});
  }

  #settleReady = {};

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
    this.#state = "live";
    this.#acknowledged = ok.cursor;
    this.last = ok.cursor ?? this.last;
    this.cursor ??= ok.cursor;
    if (ok.members) this.members = ok.members;
    this.#settleReady.resolve(ok);
  }

  refused(link, error) {
    if (link !== this.#link || this.#state !== "opening" || error instanceof Lost) return;
    this.#state = "idle";
    this.#link = null;
    if (error.code === "unavailable") this.#resumeAfter(error.after);
    else this.end(error);
  }

  /** The server has ended it: it is another connection's now, or was removed. */
  ended(link, reason) {
    if (link === this.#link) this.end(new TurnpikeError(reason, "the server has ended it"));
  }

  /** Something was told; `prev` is what must have been told before it, if that is known. */
  take(link, kind, body, prev = { ev: body.prev, gap: body.from }[kind] ?? null) {
    if (link !== this.#link || this.#state !== "live") return;
    if (prev !== null && this.last !== null && prev !== this.last) {
      this.#missed(prev);
      return;
    }
    const cursor = kind === "gap" ? body.to : body.cursor;
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
    this.#resumeAfter(null);
  }

  #leave() {
    const link = this.#link;
    this.#link = null;
    this.#state = "idle";
    link.unfollow(this);
  }

  #resumeAfter(after) {
    this.#rest = setTimeout(() => {
      this.#rest = null;
      this.resume();
    }, pause(this.#failures++, this.client.backoff, after ?? null));
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

/** An id of an event that has none. Not every page and runtime has `randomUUID`. */
function newId() {
  const part = () => Math.floor(Math.random() * 2 ** 32).toString(16).padStart(8, "0");
  return globalThis.crypto?.randomUUID?.() ?? part() + part() + part() + part();
}

class Publishes {
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

// A client: one link at a time, and another one whenever it is lost.


/** How long a way that is blocked is not tried again, in ms. */
const AVOIDED = 600_000;

/** A connection to a broker that goes on by itself. It begins at once. */
class Client {
  /** `connecting`, `open`, `reconnecting` or `closed`. */
  state = "connecting";
  /** What stands now; null: nothing. */
  link = null;
  #options; #subscriptions = new Map(); #publishes; #lastName = 0; #ended = null; #wake = null;
  #strikes = { websocket: 0, sse: 0 }; #avoided = { websocket: 0, sse: 0 }; #retry = () => this.retry();

  constructor(url = globalThis.location?.origin, options = {}) {
    this.#options = { transports: ["websocket", "sse", "long-poll"], state() {}, ...options };
    this.backoff = { first: 250, most: 30_000, ...options.backoff };
    this.base = new URL(url).href.replace(/^ws/, "http").replace(/[?#].*$/, "").replace(/\/$/, "");
    this.name = options.client;
    this.#publishes = new Publishes(this.backoff);
    // A browser knows when there is a network again.
    globalThis.addEventListener?.("online", this.#retry);
    this.#run();
  }

  /** Follows what a filter takes: an async iterator, or with callbacks. */
  subscribe(filter, options = {}, handlers = null) {
    const name = options.name ?? `s${++this.#lastName}`;
    return this.#add(new Subscription(this, name, filter, { ...options, room: null }), handlers);
  }

  /** Joins a room, `namespace/room`, and follows what happens there. */
  join(room, options = {}, handlers = null) {
    return this.#add(new Room(this, `room:${room}`, null, { ...options, room }), handlers);
  }

  /** Publishes; kept when the event is confirmed. */
  publish(event, { timeout = 60_000 } = {}) {
    if (this.#ended) return Promise.reject(this.#ended);
    return this.#publishes.add(event, timeout);
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

  async headers() {
    const { headers } = this.#options;
    return (typeof headers === "function" ? await headers() : headers) ?? {};
  }

  async token() {
    const { token } = this.#options;
    return typeof token === "function" ? token() : token;
  }

  /** Browsers send no header fields with a WebSocket; node, bun and deno take them so, the package `ws` as a third argument. */
  socket(url, protocol, headers) {
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (Object.keys(headers).length === 0) return new Socket(url, protocol);
    return Socket.Server ? new Socket(url, protocol, { headers }) : new Socket(url, { protocols: [protocol], headers });
  }

  /** An HTTP request as who the client is, answered `within` so many ms. */
  async request(path, { headers, signal, within, ...options } = {}) {
    const token = await this.token();
    const all = { ...(await this.headers()), ...(token ? { "turnpike-principal": token } : {}), ...headers };
    const signals = [signal, within && AbortSignal.timeout(within)].filter(Boolean);
    // Runtimes without `any` wait as long as it takes.
    const either = signals.length > 1 ? (AbortSignal.any?.(signals) ?? signal) : signals[0];
    const { credentials = "same-origin", fetch: send = globalThis.fetch } = this.#options;
    return send(`${this.base}${path}`, { headers: all, signal: either, credentials, cache: "no-store", ...options });
  }

  passed(transport) {
    this.#strikes[transport] = 0;
  }

  /** Something on the way doesn't let this transport pass: the second time it is left alone for a while. */
  blocked(transport) {
    this.#strikes[transport] += 1;
    if (this.#strikes[transport] >= 2) this.#avoided[transport] = Date.now() + AVOIDED;
  }

  async #run() {
    for (let attempt = 0; !this.#ended; attempt += 1) {
      const began = Date.now();
      let lost;
      try {
        const link = await this.#open();
        this.#stands(link);
        lost = await link.ended;
        // Who is let in and sent away at once has no reason to hurry.
        if (lost.after || Date.now() - began > OPENING) attempt = 0;
      } catch (error) {
        lost = error;
      }
      this.#falls();
      if (this.#ended) return;
      if (!(lost instanceof Lost)) {
        this.#finish(lost, lost);
        return;
      }
      this.#say("reconnecting", lost.message);
      await this.#sleep(pause(attempt, this.backoff, lost.after));
    }
  }

  /** The best way that is not blocked. */
  async #open() {
    const ways = this.#options.transports.filter((way) => !(this.#avoided[way] > Date.now()));
    const [first, ...others] = ways;
    if (first === "websocket" && (this.#options.WebSocket ?? globalThis.WebSocket)) {
      const link = await this.#socketLink(others.length > 0);
      if (link) return link;
    } else await this.#reachable();
    const way = ways.find((each) => each !== "websocket");
    if (!way) throw new TurnpikeError("not-supported", "there is no WebSocket here");
    return new HttpLink(this, way);
  }

  /** Null: no WebSocket gets through, and plain HTTP does. */
  async #socketLink(mayFallBack) {
    for (let again = false; ; again = true) {
      try {
        const link = await SocketLink.open(this);
        this.passed("websocket");
        return link;
      } catch (error) {
        if (!mayFallBack || !(error instanceof Lost) || error.after) throw error;
        this.#strikes.websocket += 1;
        if (this.#strikes.websocket < 2 && !error.blocked) throw error;
        // A server that is away, or has just come back, is no way that is blocked.
        if (!again) await this.#reachable();
        if (!again && !error.blocked) continue;
        this.passed("websocket");
        this.#avoided.websocket = Date.now() + AVOIDED;
        return null;
      }
    }
  }

  /** Whether plain HTTP gets through: to a question without a filter the broker says what it lacks. */
  async #reachable() {
    const answer = await this.request("/events", { within: OPENING }).catch((error) => {
      throw Lost.of(error);
    });
    if (answer.status !== 400) throw await refusal(answer);
  }

  #stands(link) {
    if (this.#ended) {
      link.close();
      return;
    }
    this.link = link;
    this.#say("open", link.transport);
    for (const subscription of this.#subscriptions.values()) subscription.resume();
    this.#publishes.on(link);
  }

  #falls() {
    this.link = null;
    this.#publishes.lost();
    for (const subscription of this.#subscriptions.values()) subscription.lost();
  }

  #add(subscription, handlers) {
    if (this.#ended) throw this.#ended;
    if (this.#subscriptions.has(subscription.name)) {
      throw new TurnpikeError("conflict", `there is ${subscription.name} already`);
    }
    this.#subscriptions.set(subscription.name, subscription);
    subscription.resume();
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
    globalThis.removeEventListener?.("online", this.#retry);
    for (const subscription of [...this.#subscriptions.values()]) subscription.end(error);
    this.#publishes.end(reason.code, reason.message);
    this.link?.close();
    this.link = null;
    this.#wake?.();
    this.#say("closed", reason.message, error);
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
    this.#options.state(state, detail, error);
  }
}

export { Client, EventStream, Room, Subscription, TurnpikeError };
