// Which way a client goes: WebSocket where it passes, else a stream, else polls; always by the same interface.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, happen, ids, range, until } from "./stage.mjs";

/** As behind a proxy that knows no upgrade. */
class Blocked {
  constructor() {
    setTimeout(() => this.onclose({ code: 1006, reason: "" }));
  }

  close() {}
}

/** As behind a proxy that holds answers back until they are whole. */
const holdsBack = async (url, options) => {
  if (options.headers.accept === "text/event-stream") {
    return new Promise((_, reject) => options.signal.addEventListener("abort", () => reject(new Error("aborted"))));
  }
  return fetch(url, options);
};

async function follows(t, options, queue) {
  const states = [];
  const made = client(t, { ...options, state: (state, detail) => states.push(`${state} ${detail}`) });
  const notes = made.subscribe(`${queue}/*`);
  await notes.ready;
  await happen(`publish/${queue}/CREATE/0/10`);
  assert.deepEqual(await ids(notes, 10), range(0, 10));
  await made.publish({ queue, event: "WRITTEN", id: "10" });
  assert.deepEqual(await ids(notes, 1), [10]);
  return { made, states };
}

test("a WebSocket where it passes", async (t) => {
  const { made } = await follows(t, {}, "OPEN");
  assert.equal(made.link.transport, "websocket");
});

test("a stream where no WebSocket passes", async (t) => {
  const { made } = await follows(t, { WebSocket: Blocked }, "BLOCKED");
  assert.equal(made.link.transport, "sse");
});

test("a stream where there is no WebSocket at all", async (t) => {
  const there = globalThis.WebSocket;
  t.after(() => (globalThis.WebSocket = there));
  globalThis.WebSocket = undefined;
  const { made } = await follows(t, {}, "MISSING");
  assert.equal(made.link.transport, "sse");
});

test("polls where streams are held back", async (t) => {
  const { made } = await follows(t, { WebSocket: Blocked, fetch: holdsBack, openWithin: 1_000 }, "HELD");
  assert.equal(made.link.transport, "long-poll");
});

test("a server that is away is no way that is blocked", async (t) => {
  await happen("refuse");
  await happen("cut");
  const made = client(t);
  const notes = made.subscribe("AWAY/*");
  let tries = 0;
  await until("it has tried some times", () => made.state === "reconnecting" && (tries += 1) > 100);
  await happen("heal");
  await notes.ready;
  assert.equal(made.link.transport, "websocket");
});

test("a node that takes nobody now is no way that is blocked", async (t) => {
  // A page isn't told that its WebSockets are answered with a 503; a plain question is.
  let tries = 0;
  let asked = 0;
  function Full(...how) {
    return (tries += 1) > 4 ? new WebSocket(...how) : new Blocked();
  }
  const full = async (at, options) => {
    if (!at.endsWith("/ws")) return fetch(at, options);
    asked += 1;
    return new Response("{}", { status: 503 });
  };
  const made = client(t, { WebSocket: Full, fetch: full });
  const notes = made.subscribe("FULL/*");
  await notes.ready;
  assert.deepEqual([made.link.transport, tries, asked], ["websocket", 5, 3]);
});

test("where no way is open the ways are tried again", async (t) => {
  const states = [];
  const state = (...said) => states.push(said.slice(0, 2).join(" "));
  let held = 0;
  const onceMore = (at, options) => {
    const isStream = options.headers.accept === "text/event-stream";
    return isStream && (held += 1) <= 3 ? holdsBack(at, options) : fetch(at, options);
  };
  const made = client(t, { transports: ["sse"], fetch: onceMore, openWithin: 500, state });
  await made.subscribe("HELD_AGAIN/*").ready;
  assert.ok(states.filter((said) => said === "reconnecting nothing was heard").length >= 3, states.join());
});

test("without a WebSocket a room is refused by name", async (t) => {
  const made = client(t, { transports: ["sse"] });
  await assert.rejects(made.join("chat/lobby").next(), { code: "not-supported" });
});

test("who is not known is sent away for good, whichever way", async (t) => {
  const made = client(t, { WebSocket: Blocked, token: "nonsense" });
  await assert.rejects(made.subscribe("DB/*").next(), { code: "unauthenticated" });
  assert.equal(made.state, "closed");
});
