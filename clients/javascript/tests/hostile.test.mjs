// Servers without manners: what they say is borne, ended with a reason, or waited out; never for nothing.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { client, happen, ids, until, url } from "./stage.mjs";

async function visit(t, manner, options = {}) {
  const states = [];
  const state = (...said) => states.push(said.slice(0, 2).join(": "));
  const made = client(t, { at: await happen(`impostor/${manner}`), transports: ["websocket"], token: "t", state, ...options });
  return { made, states };
}

/** A subscription that nobody waits for. */
function follow(made) {
  const notes = made.subscribe("DB/*");
  notes.ready.catch(() => {});
  return notes;
}

const count = (states, what) => states.filter((state) => state === what).length;

test("what is of a later protocol, or meant for nobody, is passed over", async (t) => {
  const { made, states } = await visit(t, "odd");
  assert.deepEqual(await ids(follow(made), 1), [1]);
  assert.deepEqual(states, ["open: websocket"]);
});

test("what can't be read ends the connection with a reason, and another one is tried", async (t) => {
  for (const [manner, reason] of [
    ["nonsense", /can't be read: .*JSON/],
    ["empty", /can't be read: /],
    ["binary", /can't be read: it is no text/],
    ["huge", /can't be read: it is too large/],
    ["placeless", /can't be read: a cursor is missing/],
  ]) {
    const { made, states } = await visit(t, manner);
    follow(made);
    await until("it comes again", () => count(states, "open: websocket") > 1);
    assert.match(states[1], reason, manner);
    made.close();
  }
});

test("who is never welcomed gives up and comes again", async (t) => {
  for (const manner of ["silent", "chatty"]) {
    const { made, states } = await visit(t, manner, { openWithin: 200 });
    await until("it gives up twice", () => count(states, "reconnecting: no welcome in time") > 1);
    made.close();
  }
});

test("who is sent away again and again doesn't hurry", async (t) => {
  const { made, states } = await visit(t, "restless", { backoff: { first: 100, most: 1_000 } });
  const began = Date.now();
  follow(made);
  await until("it was sent away seven times", () => count(states, "reconnecting: because") >= 7);
  // It may come back at once, each time, as far as the server is concerned.
  assert.ok(Date.now() - began > 100);
});

test("who is sent away for good is told why", async (t) => {
  const { made } = await visit(t, "dismissing");
  await assert.rejects(follow(made).next(), { code: "goaway", message: "because" });
  assert.equal(made.state, "closed");
});

test("who is sent away and not closed goes by itself", async (t) => {
  const { made, states } = await visit(t, "lingering", { openWithin: 1_000 });
  follow(made);
  await until("it goes", () => count(states, "reconnecting: nothing was heard") > 0);
});

test("who is asked to come later comes later", async (t) => {
  const { made: publisher } = await visit(t, "busy");
  let began = Date.now();
  assert.equal((await publisher.publish({ queue: "DB", event: "CREATE", id: "n1" })).id, "n1");
  assert.ok(Date.now() - began >= 1_000);
  const { made: reader } = await visit(t, "busy");
  began = Date.now();
  assert.deepEqual(await ids(follow(reader), 1), [1]);
  assert.ok(Date.now() - began >= 1_000);
});

test("by plain HTTP, too", async (t) => {
  for (const status of [429, 503]) {
    const put = new Set();
    const fetchLater = async (address, options) => {
      const what = options.method ?? "GET";
      if (put.has(what)) return fetch(address, options);
      put.add(what);
      return new Response('{"type":"https://x/too-many","detail":"not now"}', { status, headers: { "retry-after": "1" } });
    };
    const made = client(t, { transports: ["sse"], fetch: fetchLater });
    let began = Date.now();
    await made.subscribe("DB/*").ready;
    assert.ok(Date.now() - began >= 1_000, "a connection");
    began = Date.now();
    await made.publish({ queue: `LATER_${status}`, event: "CREATE" });
    assert.ok(Date.now() - began >= 1_000, "a publish");
  }
});

test("a publish that was put off until it was late says for what", async (t) => {
  const { made } = await visit(t, "busy");
  await assert.rejects(made.publish({ queue: "DB", event: "CREATE" }, { timeout: 500 }), { code: "too-many", retryAfter: 1_000 });
});

test("a client that is closed leaves nothing that runs on", async () => {
  const program = (at, transport, then) => `
    import { Client } from ${JSON.stringify(new URL("../turnpike.js", import.meta.url))};
    const made = new Client(${JSON.stringify(at)}, { transports: [${JSON.stringify(transport)}], token: ${JSON.stringify(token)} });
    const notes = made.subscribe("DB/*");
    made.publish({ queue: "DB", event: "CREATE" }).catch(() => {});
    ${then}
    made.close();
    setImmediate(() => setImmediate(() => {
      console.log(process.getActiveResourcesInfo().filter((each) => each === "Timeout").length);
      process.exit();
    }));`;
  const token = await happen("token");
  const [silent, busy, nobody] = [await happen("impostor/silent"), await happen("impostor/busy"), "http://127.0.0.1:9"];
  const stands = "await notes.ready;";
  for (const [at, transport, then] of [
    [nobody, "websocket", "while (made.state !== 'reconnecting') await new Promise((resolve) => setTimeout(resolve, 10));"],
    [silent, "websocket", ""],
    [silent, "websocket", "await new Promise((resolve) => setTimeout(resolve, 100));"],
    [busy, "websocket", stands],
    [url, "websocket", stands],
    [url, "sse", stands],
    [url, "long-poll", stands],
  ]) {
    const node = ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", program(at, transport, then)];
    const { stdout } = await promisify(execFile)(process.execPath, node, { timeout: 60_000 });
    assert.equal(stdout.trim(), "0", `${at} ${transport}`);
  }
});
