// What can go wrong, and when to try again.

/** Something was refused or is over. Programs go by `code`, people read `message`. */
export class TurnpikeError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    Object.assign(this, { name: "TurnpikeError", code }, more);
  }
}

/** The connection is gone, and another one goes on: after so many ms, [least, most], if the server said so. */
export class Lost extends Error {
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
export function pause(attempt, { first, most }, after = null) {
  return after ? random(...after) : random(0, Math.min(most, first * 2 ** Math.min(attempt, 30)));
}

/** Not before this many ms, and not all at once. */
export const later = (wait) => [wait, wait * 1.5];

/** What an answer that isn't well says: what passes is `Lost`, the rest is refused. */
export async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  const code = problem.type?.split("/").pop() ?? `http-${answer.status}`;
  const message = problem.detail ?? `the server answers ${answer.status}`;
  const { status } = answer;
  const passes = status === 429 ? !["queue-full", "too-many"].includes(code) : [502, 503, 504].includes(status);
  const wait = Number(answer.headers.get("retry-after")) * 1_000;
  return passes ? new Lost(message, { after: wait > 0 ? later(wait) : null }) : new TurnpikeError(code, message, { status });
}
