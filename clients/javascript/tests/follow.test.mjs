// Following, the same by each way: every event once, in order, across everything that breaks.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, happen, ids, range, until, way } from "./stage.mjs";

test("what was there is told, then what comes", async (t) => {
  await happen("publish/PAST/CREATE/0/5");
  const past = client(t).subscribe("PAST/*", { cursor: "earliest" });
  let last;
  for (const n of range(0, 5)) {
    const { value: told } = await past.next();
    assert.deepEqual([told.kind, told.event.id, told.event.data, told.replay], ["event", String(n), { n }, true]);
    last = told;
  }
  assert.equal((await past.next()).value.kind, "caught-up");
  await happen("publish/PAST/UPDATE/5/6");
  const { value: told } = await past.next();
  assert.deepEqual([told.event.id, told.event.event, told.replay], ["5", "UPDATE", false]);
  // What is done with is where another one goes on.
  assert.equal(past.cursor, told.prev);
  const other = client(t).subscribe("PAST/*", { cursor: last.cursor });
  assert.deepEqual(await ids(other, 1), [5]);
});

test("a cut, a dead node and a drain lose and double nothing", async (t) => {
  const notes = client(t).subscribe("CUT/*");
  await notes.ready;
  await happen("publish/CUT/CREATE/0/20");
  assert.deepEqual(await ids(notes, 10), range(0, 10));
  await happen("cut");
  await happen("publish/CUT/CREATE/20/40");
  assert.deepEqual(await ids(notes, 30), range(10, 40));
  await happen("kill");
  await happen("publish/CUT/CREATE/40/60");
  assert.deepEqual(await ids(notes, 20), range(40, 60));
  await happen("drain");
  await happen("publish/CUT/CREATE/60/80");
  assert.deepEqual(await ids(notes, 20), range(60, 80));
});

test("wherever it is cut, nothing is missing", async (t) => {
  const notes = client(t).subscribe("CHAIN/*", { credit: 8 });
  await notes.ready;
  const taken = [];
  for (const round of range(0, 9)) {
    await happen(`cut/back/${150 + 397 * round}`);
    await happen(`publish/CHAIN/CREATE/${round * 10}/${round * 10 + 10}`);
    if (round % 3 < 2) continue;
    await happen("heal");
    taken.push(...(await ids(notes, 30)));
  }
  assert.deepEqual(taken, range(0, 90));
});

test("who reads nothing holds up nobody and misses nothing", async (t) => {
  const made = client(t);
  const slow = made.subscribe("SLOW/*", { credit: 4 });
  const quick = made.subscribe("SLOW/*", { credit: 4 });
  await Promise.all([slow.ready, quick.ready]);
  await happen("publish/SLOW/CREATE/0/100");
  assert.deepEqual(await ids(quick, 100), range(0, 100));
  await happen("cut");
  await happen("publish/SLOW/CREATE/100/110");
  assert.deepEqual(await ids(quick, 10), range(100, 110));
  assert.deepEqual(await ids(slow, 110), range(0, 110));
});

test("callbacks are called one after the other", async (t) => {
  await happen("publish/CALLED/CREATE/0/3");
  const said = [];
  let busy = false;
  await new Promise((resolve, reject) => {
    client(t).subscribe("CALLED/*", { cursor: "earliest" }, {
      async event({ event }) {
        assert.equal(busy, false);
        busy = true;
        await new Promise((rested) => setTimeout(rested, 5));
        busy = false;
        said.push(event.id);
      },
      caughtUp: resolve,
      error: reject,
    });
  });
  assert.deepEqual(said, ["0", "1", "2"]);
});

test("a handler that throws ends its subscription and is heard", async (t) => {
  await happen("publish/THROWN/CREATE/0/3");
  const made = client(t);
  const thrown = await new Promise((resolve) => {
    made.subscribe("THROWN/*", { cursor: "earliest", name: "thrown" }, {
      event() {
        throw new Error("too much for me");
      },
      error: resolve,
    });
  });
  assert.equal(thrown.message, "too much for me");
  assert.equal(made.subscription("thrown"), undefined);
});

test("who may not is told so, and others go on", async (t) => {
  const bob = client(t, { token: () => happen("token/bob") });
  const refused = bob.subscribe("ORDERS/*");
  await assert.rejects(refused.next(), { code: "forbidden" });
  await assert.rejects(refused.ready, { code: "forbidden" });
  assert.deepEqual(await refused.next(), { value: undefined, done: true });
  for (const [filter, options] of [["nonsense", {}], ["DB/*", { cursor: "nonsense" }]]) {
    await assert.rejects(bob.subscribe(filter, options).next(), { code: "invalid" });
  }
  const notes = bob.subscribe("DB/*", { name: "notes" });
  assert.throws(() => bob.subscribe("DB/*", { name: "notes" }), { code: "conflict" });
  await notes.ready;
  await happen("publish/DB/CREATE/0/1");
  assert.deepEqual(await ids(notes, 1), [0]);
});

test("who is not known is sent away for good", async (t) => {
  const states = [];
  const made = client(t, { token: "nonsense", state: (...state) => states.push(state) });
  const notes = made.subscribe("DB/*");
  await assert.rejects(notes.next(), { code: "unauthenticated" });
  assert.equal(made.state, "closed");
  assert.equal(states.at(-1)[2].code, "unauthenticated");
  await assert.rejects(made.publish({ queue: "DB", event: "CREATE" }), { code: "unauthenticated" });
  assert.throws(() => made.subscribe("DB/*"), { code: "unauthenticated" });
});

test("a token that was refused is made anew, once", async (t) => {
  const asked = [];
  let held = "nonsense";
  const renewed = client(t, {
    async token(refused) {
      asked.push(refused?.code);
      if (refused) held = await happen("token");
      return held;
    },
  });
  await renewed.subscribe("DB/*").ready;
  assert.deepEqual(asked.slice(0, 2), [undefined, "unauthenticated"]);
  const hopeless = client(t, { token: () => "nonsense" });
  await assert.rejects(hopeless.subscribe("DB/*").next(), { code: "unauthenticated" });
  assert.equal(hopeless.state, "closed");
});

test("a signal closes a subscription", async (t) => {
  const made = client(t);
  const control = new AbortController();
  const notes = made.subscribe("DB/*", { name: "notes", signal: control.signal });
  await notes.ready;
  const told = (async () => {
    for await (const each of notes) assert.equal(each.kind, "caught-up");
  })();
  control.abort();
  await told;
  assert.equal(made.subscription("notes"), undefined);
  const late = made.subscribe("DB/*", { signal: control.signal });
  assert.equal((await late.next()).done, true);
});

test("a name of one's own is nobody else's", async (t) => {
  const made = client(t);
  const own = made.subscribe("DB/*", { name: "s1" });
  const other = made.subscribe("DB/*");
  await Promise.all([own.ready, other.ready]);
  assert.notEqual(own.name, other.name);
});

test("a subscription and a client that are closed are over", async (t) => {
  await happen("publish/OVER/CREATE/0/3");
  const made = client(t);
  const first = made.subscribe("OVER/*", { cursor: "earliest" });
  for await (const told of first) {
    assert.equal(told.event.id, "0");
    break;
  }
  assert.deepEqual(await first.next(), { value: undefined, done: true });
  const second = made.subscribe("OVER/*");
  await second.ready;
  const waiting = second.next();
  made.close();
  if ((await waiting).value?.kind === "caught-up") assert.equal((await second.next()).done, true);
  assert.equal(made.state, "closed");
});

test("it begins before the server does", async (t) => {
  await happen("refuse");
  await happen("cut");
  const made = client(t);
  const notes = made.subscribe("LATE/*", { cursor: "earliest" });
  await until("it tries", () => made.state === "reconnecting");
  await happen("publish/LATE/CREATE/0/2");
  await happen("heal");
  assert.deepEqual(await ids(notes, 2), [0, 1]);
  assert.equal(made.link.transport, way);
});

test("a gap in the chain is told and read again", { skip: way !== "websocket" }, async (t) => {
  let dropped = false;
  class Leaky extends WebSocket {
    set onmessage(heard) {
      super.onmessage = (message) => {
        // One event gets lost on the way, and nobody else notices.
        if (!dropped && message.data.includes('"id":"2"')) dropped = true;
        else heard(message);
      };
    }
  }
  const notes = client(t, { WebSocket: Leaky }).subscribe("LEAKY/*");
  await notes.ready;
  await happen("publish/LEAKY/CREATE/0/5");
  const kinds = [];
  const taken = [];
  while (taken.length < 5) {
    const { value: told } = await notes.next();
    if (told.kind === "event") taken.push(Number(told.event.id));
    else kinds.push(told.kind);
  }
  assert.deepEqual(taken, range(0, 5));
  assert.equal(dropped, true);
  assert.deepEqual(kinds.filter((kind) => kind !== "caught-up"), ["missed"]);
});

test("a connection that died in silence is noticed", { skip: way !== "websocket" }, async (t) => {
  const states = [];
  const made = client(t, { state: (...state) => states.push(state.join(" ")) });
  const notes = made.subscribe("SILENT/*");
  await notes.ready;
  await happen("swallow");
  await until("it notices", () => made.state === "reconnecting");
  await happen("publish/SILENT/CREATE/0/3");
  await happen("heal");
  assert.deepEqual(await ids(notes, 3), [0, 1, 2]);
  assert.match(states.find((state) => state.startsWith("reconnecting")), /nothing was heard/);
  // Nobody else ends what was swallowed, and node waits for it.
  await happen("cut");
});
