// A program in TypeScript that uses all that the types offer: it is compiled, not run.

import { Client, EventStream, Room, Subscription, TurnpikeError, type Receipt, type State, type Told } from "../turnpike.js";

interface Note {
  text: string;
}

const page = new Client();
const client = new Client("https://shop.example", {
  client: "program",
  headers: async (refused) => ({ "x-api-key": refused ? "another" : "k" }),
  token: (refused) => (refused?.code === "unauthenticated" ? "fresh" : "t"),
  transports: ["websocket", "long-poll"],
  credentials: "include",
  backoff: { first: 100 },
  openWithin: 5_000,
  state(state: State, detail: string, error) {
    console.log(state, detail.length, error?.code);
  },
});

const control = new AbortController();
const notes: Subscription<Note> = client.subscribe<Note>("NOTES/*", { cursor: "-PT5M", credit: 8, view: "latest", signal: control.signal });
const { replaying } = await notes.ready;
console.log(replaying?.toFixed(), notes.name, notes.cursor ?? "earliest");
for await (const told of notes) {
  switch (told.kind) {
    case "event":
      console.log(told.event.data?.text.length, told.event.subject ?? "", told.replay && told.prev);
      break;
    case "gap":
      console.log(told.lost?.toFixed(), told.reason === "retention", told.from, told.to);
      break;
    case "missed":
      console.log(told.expected, told.got);
      break;
    case "caught-up":
      console.log(told.cursor);
  }
}

client.subscribe<Note>("NOTES/*", { durable: true, name: "desk" }, {
  event: async ({ event }) => event.data?.text,
  caughtUp: ({ cursor }) => cursor,
  error: (error) => console.log(error.message),
});

try {
  const note = { queue: "NOTES", event: "WRITTEN", subject: "notes/1", key: "k", data: { text: "a" }, id: "n1", confirm: "fsynced" };
  const receipt: Receipt = await client.publish(note, { timeout: 5_000, signal: control.signal });
  console.log(receipt.cursor, receipt.duplicate === true, receipt.groups?.logger);
} catch (error) {
  if (error instanceof TurnpikeError) console.log(error.code, error.id, error.status, (error.retryAfter ?? 0) / 1_000);
}

const room: Room = client.join("chat/lobby", { cursor: "latest" });
console.log(room.room, room.members[0]?.user);
await room.publish("MESSAGE", { text: "hello" }, { id: "m1", timeout: 1_000 });
room.leave();
console.log((await client.members("chat/lobby"))[0]?.since, (await client.presence(["a"]))[0]?.last_seen);
client.retry();
client.close();
page.close();

const stream = new EventStream("/changes", { block: ({ data }) => JSON.parse(data), lastEventId: () => null });
stream.open();
if (stream.reading) stream.interrupt("enough");
stream.close();

export function misused(told: Told<Note>) {
  // @ts-expect-error: only events have one.
  told.event.id;
  // @ts-expect-error: the cursor is the subscription's to move.
  notes.cursor = "c";
  // @ts-expect-error: there is no such state.
  if (client.state === "gone") return;
  // @ts-expect-error: an event has a name.
  client.publish({ queue: "NOTES" });
}
