// Prints the notes that are new since it last ran.
import { readFile, writeFile } from "node:fs/promises";
import { Client } from "../../clients/javascript/turnpike.js";

const client = new Client("http://127.0.0.1:8080", { headers: { "x-api-key": process.env.TURNPIKE_API_KEY } });
const place = await readFile("place", "utf8").catch(() => "earliest");
const notes = client.subscribe("NOTES/*", { cursor: place });
for await (const told of notes) {
  if (told.kind === "event") console.log(told.event.id, told.event.data.text);
  if (told.kind === "gap") console.log(`${told.lost ?? "some"} are gone: ${told.reason}`);
  if (told.kind === "caught-up") break;
}
await writeFile("place", notes.cursor);
client.close();
