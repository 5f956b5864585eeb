// What the tests share: the network's other end, and clients that are impatient.

import { Client } from "../turnpike.js";

const { TURNPIKE_URL: url, TURNPIKE_CONTROL: control, TURNPIKE_WAY: way } = process.env;
export { url, way };

/** Has something happen at the stage; gives what it says. */
export async function happen(what) {
  const answer = await fetch(`${control}/${what}`, { method: /^(log|token|connections)/.test(what) ? "GET" : "POST" });
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
  return answer.text();
}

export const log = async (queue) => JSON.parse(await happen(`log/${queue}`));

/** A client that may do everything, by the way that is tested; closed when the test is over. */
export function client(test, { at = url, ...options } = {}) {
  const transports = way ? [way] : undefined;
  const defaults = { token: () => happen("token"), backoff: { first: 20, most: 500 }, ...(transports && { transports }) };
  const made = new Client(at, { ...defaults, ...options });
  test.after(() => made.close());
  return made;
}

/** The ids of so many events; what else is told must be that it has caught up. */
export async function ids(subscription, count) {
  const taken = [];
  while (taken.length < count) {
    const { value: told } = await subscription.next();
    if (told.kind === "event") taken.push(Number(told.event.id));
    else if (told.kind !== "caught-up") throw new Error(`${JSON.stringify(told)} after ${taken}`);
  }
  return taken;
}

export const range = (from, to) => Array.from({ length: to - from }, (_, at) => from + at);

/** Waits for a condition, at most 30 s. */
export async function until(what, condition) {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
