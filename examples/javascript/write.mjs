// Publishes a note: write.mjs SUBJECT TEXT [ID]
import { Client } from "../../clients/javascript/turnpike.js";

const [subject, text, id] = process.argv.slice(2);
const client = new Client("http://127.0.0.1:8080", { headers: { "x-api-key": process.env.TURNPIKE_API_KEY } });
try {
  const receipt = await client.publish({ queue: "NOTES", event: "WRITTEN", subject, data: { text }, id });
  console.log(receipt.id, receipt.confirm, receipt.duplicate ? "before" : "now");
} catch (error) {
  console.log(error.code, error.message);
} finally {
  client.close();
}
