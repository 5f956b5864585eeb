// The stream of changes, by Turnpike's own client for JavaScript: it comes again by itself, from where it was. What it can't
// do by itself (sign in) it tells.

import { EventStream } from "./turnpike.js";

export class Feed {
  /** `take(kind, told)` gets what is told; `state(name, detail)` how it goes: live, reconnecting, signed-out, refused. */
  constructor(url, { take, state, position }) {
    this.stream = new EventStream(url, {
      block: ({ event, data }) => {
        const told = JSON.parse(data);
        // So a gateway says that the dashboard is gone: nothing is live by that, and each attempt comes later than the one before.
        if (event === "error") throw new Error(told.detail ?? "the stream broke off");
        take(event, told);
      },
      state: (name, detail, status) => state(status === 401 ? "signed-out" : name, detail),
      lastEventId: position,
    });
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.stream.interrupt("the browser is offline"));
    document.addEventListener("visibilitychange", () => {
      // Perhaps somebody has signed in elsewhere.
      if (!document.hidden && !this.stream.reading) this.retry();
    });
  }

  start() {
    this.stream.open();
  }

  /** At once, not after the pause. */
  retry() {
    this.stream.open();
  }
}
