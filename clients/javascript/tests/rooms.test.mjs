// Rooms: who is in one is told what happens there, also when its node dies.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, happen, until } from "./stage.mjs";

const guest = (t, name) => client(t, { token: () => happen(`token/${name}/guest`) });

/** The next event of this name. */
async function event(room, name) {
  for (;;) {
    const { value: told } = await room.next();
    if (told.kind === "event" && told.event.event === name) return told.event;
    assert.ok(["event", "caught-up"].includes(told.kind), JSON.stringify(told));
  }
}

test("two in a room hear each other across a dead node", async (t) => {
  const [alice, bob] = [guest(t, "alice"), guest(t, "bob")];
  const hers = alice.join("chat/lobby");
  await hers.ready;
  const his = bob.join("chat/lobby");
  await his.ready;
  assert.deepEqual(his.members.map(({ user }) => user), ["alice", "bob"]);
  const receipt = await hers.publish("MESSAGE", { text: "hello" });
  assert.equal(receipt.confirm, "stored");
  for (const room of [his, hers]) {
    const { data, owner, id } = await event(room, "MESSAGE");
    assert.deepEqual([data.text, owner, id], ["hello", "alice", receipt.id]);
  }
  await happen("kill");
  for (const text of ["are you", "still there?"]) await his.publish("MESSAGE", { text });
  for (const text of ["are you", "still there?"]) {
    assert.equal((await event(hers, "MESSAGE")).data.text, text);
    assert.equal((await event(his, "MESSAGE")).data.text, text);
  }
  const online = await alice.presence(["alice", "bob", "carol"]);
  assert.deepEqual(online.map(({ user, online: is }) => [user, is]), [["alice", true], ["bob", true], ["carol", false]]);
  hers.leave();
  await event(his, "LEFT");
  await until("she is gone", async () => {
    const members = await bob.members("chat/lobby");
    return members.length === 1 && members[0].user === "bob";
  });
  assert.deepEqual(await hers.next(), { value: undefined, done: true });
});

test("a room is for those who may", async (t) => {
  const alice = guest(t, "alice");
  await assert.rejects(alice.join("staff/lobby").next(), { code: "forbidden" });
  await assert.rejects(alice.join("lobby").next(), { code: "invalid" });
  await assert.rejects(alice.publish({ queue: "ROOMS", event: "MESSAGE", subject: "staff/lobby" }), { code: "forbidden" });
  await assert.rejects(alice.members("staff/lobby"), { code: "forbidden" });
});
