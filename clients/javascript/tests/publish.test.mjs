// Publishing across everything that breaks: what is confirmed is recorded, once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, happen, log, range, until } from "./stage.mjs";

const connections = async () => Number(await happen("connections"));
const note = (queue, n) => ({ queue, event: "WRITTEN", id: String(n), key: "k", data: { n } });

for (const transports of [["websocket"], ["sse"]]) {
  const [way] = transports;
  const queue = (name) => `${name}_${way.toUpperCase()}`;

  test(`${way}: an event is confirmed, and a repeat is none`, async (t) => {
    const made = client(t, { transports });
    const receipt = await made.publish(note(queue("ONCE"), 1));
    assert.deepEqual([receipt.id, receipt.confirm, receipt.duplicate ?? false], ["1", "stored", false]);
    const again = await made.publish(note(queue("ONCE"), 1));
    assert.deepEqual([again.cursor, again.duplicate], [receipt.cursor, true]);
    const named = await made.publish({ queue: queue("ONCE"), event: "WRITTEN", subject: "notes/1" });
    assert.match(named.id, /^[0-9a-f-]{32,36}$/);
    assert.deepEqual(await log(queue("ONCE")), ["1", named.id]);
  });

  test(`${way}: what is wrong is refused and said`, async (t) => {
    const made = client(t, { transports });
    for (const [event, code] of [
      [{ queue: "notes", event: "WRITTEN" }, "invalid"],
      [{ queue: "SYS", event: "WRITTEN" }, "forbidden"],
      [{ ...note("NOTES", 1), data: "x".repeat(2 << 20) }, "too-large"],
      [{ ...note("NOTES", 1), confirm: "perhaps" }, "invalid"],
    ]) {
      await assert.rejects(made.publish(event), { code });
    }
    const bob = client(t, { transports, token: () => happen("token/bob") });
    await assert.rejects(bob.publish(note("NOTES", 1)), { code: "forbidden", id: "1" });
  });

  test(`${way}: answers that get lost are asked for again, and nothing is recorded twice`, async (t) => {
    const made = client(t, { transports });
    for (const round of range(0, 6)) {
      const before = await connections();
      await happen(`cut/back/${40 + 310 * round}`);
      const receipts = range(0, 20).map((n) => made.publish(note(queue("LOST"), round * 20 + n)));
      await until("it was cut off, and came again", async () => (await connections()) > before);
      if (round % 2 === 0) await happen("kill");
      await happen("heal");
      for (const receipt of await Promise.all(receipts)) assert.equal(receipt.confirm, "stored");
    }
    const recorded = (await log(queue("LOST"))).map(Number);
    assert.deepEqual(recorded, range(0, 120));
  });
}

test("what is not confirmed in time may be tried again under its id", async (t) => {
  const made = client(t);
  await made.publish(note("TIMELY", 0));
  await happen("swallow");
  await assert.rejects(made.publish(note("TIMELY", 1), { timeout: 200 }), { code: "timeout", id: "1" });
  await happen("heal");
  await happen("cut");
  await made.publish(note("TIMELY", 1));
  assert.deepEqual(await log("TIMELY"), ["0", "1"]);
});

test("what is given up waits no longer", async (t) => {
  await happen("refuse");
  await happen("cut");
  const made = client(t);
  const control = new AbortController();
  const pending = made.publish(note("GIVEN", 1), { signal: control.signal });
  control.abort();
  await assert.rejects(pending, { code: "aborted", id: "1" });
  await assert.rejects(made.publish(note("GIVEN", 2), { signal: control.signal }), { code: "aborted", id: "2" });
  await happen("heal");
  await made.publish(note("GIVEN", 3));
  assert.deepEqual(await log("GIVEN"), ["3"]);
});

test("more than may wait is refused at once; a close refuses the rest", async (t) => {
  const made = client(t);
  await happen("refuse");
  await happen("cut");
  const answers = range(0, 1_100).map((n) => made.publish(note("MANY", n)).then(() => "stored", ({ code }) => code));
  await happen("heal");
  const told = await Promise.all(answers);
  assert.equal(told.filter((code) => code === "too-many").length, 1_100 - 1_024);
  assert.equal((await log("MANY")).length, 1_024);
  await happen("swallow");
  const pending = made.publish(note("MANY", 2_000));
  made.close();
  await assert.rejects(pending, { code: "closed" });
  await happen("heal");
  await happen("cut");
});
