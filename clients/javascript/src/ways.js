// Which way a client goes: a WebSocket where it passes, else a stream, else polls; the first of those it may go by.

import { lostBy } from "./answer.js";
import { Lost, TurnpikeError } from "./failure.js";
import { HttpLink } from "./http.js";
import { SocketLink } from "./socket.js";

/** How long a way that is blocked is not tried again, in ms. */
const AVOIDED = 600_000;

export class Ways {
  #client; #transports; #Socket; #strikes = { websocket: 0, sse: 0 }; #avoided = {}; #opening = null;

  constructor(client, { transports = ["websocket", "sse", "long-poll"], WebSocket = globalThis.WebSocket }) {
    this.#client = client;
    this.#transports = transports.filter((way) => way !== "websocket" || WebSocket);
    this.#Socket = WebSocket;
  }

  /** A link by the best way that is not blocked; where all are, they are tried again. */
  async open() {
    if (this.#transports.length === 0) throw new TurnpikeError("not-supported", "there is no WebSocket here");
    const open = this.#transports.filter((way) => !(this.#avoided[way] > Date.now()));
    const [way, ...others] = open.length > 0 ? open : this.#transports;
    if (way === "websocket") {
      const link = await this.#socketLink(others.length > 0);
      if (link) return link;
      this.#avoid(way);
      return new HttpLink(this.#client, others[0]);
    }
    await this.#reach("/events");
    return new HttpLink(this.#client, way);
  }

  /** Ends what is being opened. */
  close() {
    this.#opening?.close();
  }

  passed(transport) {
    this.#strikes[transport] = 0;
  }

  /** Something on the way doesn't let this transport pass: the second time it is left alone for a while. */
  blocked(transport) {
    this.#strikes[transport] += 1;
    if (this.#strikes[transport] >= 2) this.#avoid(transport);
  }

  /** Browsers send no header fields with a WebSocket; node, bun and deno take them so, the package `ws` as a third argument. */
  socket(url, protocol, headers) {
    const Socket = this.#Socket;
    if (Object.keys(headers).length === 0) return new Socket(url, protocol);
    return Socket.Server ? new Socket(url, protocol, { headers }) : new Socket(url, { protocols: [protocol], headers });
  }

  /** Null: no WebSocket gets through, and the broker would take one. */
  async #socketLink(mayFallBack) {
    try {
      return await this.#dial();
    } catch (error) {
      if (!mayFallBack || !(error instanceof Lost) || error.after) throw error;
      this.#strikes.websocket += 1;
      if (this.#strikes.websocket < 2 && !error.blocked) throw error;
      // A server that is away, or takes nobody now, is no way that is blocked; nor is one that has just come back.
      await this.#reach("/ws");
      if (error.blocked) return null;
    }
    return this.#dial().catch((error) => {
      if (!(error instanceof Lost) || error.after) throw error;
      return null;
    });
  }

  async #dial() {
    this.#opening = new SocketLink(this.#client);
    const link = await this.#opening.opened;
    this.passed("websocket");
    return link;
  }

  /** Sees whether plain HTTP gets through: to a question that lacks something the broker says what. */
  async #reach(path) {
    const take = async (answer) => {
      if (answer.status !== 400) throw await lostBy(answer);
    };
    await this.#client.request(path, { within: this.#client.openWithin }, take).catch((error) => {
      throw error instanceof TurnpikeError ? error : Lost.of(error);
    });
  }

  #avoid(transport) {
    this.passed(transport);
    this.#avoided[transport] = Date.now() + AVOIDED;
  }
}
