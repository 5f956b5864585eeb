// What can go wrong, and when to try again.

/** What a server may ask for, in ms; then it is asked again. */
const LONGEST = 3_600_000;

/** Something was refused or is over. Programs go by `code`, people read `message`. */
export class TurnpikeError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    Object.assign(this, { name: "TurnpikeError", code }, more);
  }
}

/** The connection is gone, and another one goes on: after so many ms, [least, most], if it was the server that sent it away. */
export class Lost extends Error {
  constructor(message, { after = null, blocked = false } = {}) {
    super(message);
    Object.assign(this, { name: "Lost", after, blocked });
  }

  static of(error) {
    if (error instanceof Lost) return error;
    return new Lost(String(error?.message ?? error), { after: later(error?.retryAfter) });
  }
}

/** Whether it may be otherwise in a while: what the broker says when to try again, and that the bus is away. */
export const passes = ({ code, retryAfter }) => code === "unavailable" || retryAfter !== undefined;

const random = (least, most) => least + Math.random() * (most - least);

/** Full jitter: any time up to twice as much each time, and not before the server wants to see it: some time in that range. */
export function pause(attempt, { first, most }, after = null) {
  const own = random(0, Math.min(most, first * 2 ** Math.min(attempt, 30)));
  const [least = 0, latest = least] = (after ?? [0]).map((wait) => (wait > 0 ? Math.min(wait, LONGEST) : 0));
  return Math.max(own, random(least, Math.max(least, latest)));
}

/** Not before this many ms, and not all at once. */
export const later = (wait) => (wait === undefined ? null : [wait, wait * 1.5]);
