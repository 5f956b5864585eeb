// The stream of changes. It comes again by itself, from where it was; what it can't do by itself (sign in) it tells.
// Read by `fetch`, since EventSource doesn't say with which status it was turned away.

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 10_000;
/** Nothing at all, not even a heartbeat (15 s): the connection is dead, whatever the browser thinks. */
const SILENCE = 40_000;

export class Feed {
  /** `take(kind, told)` gets what is told; `state(name, detail)` how it goes: live, reconnecting, signed-out, refused. */
  constructor(url, { take, state, position }) {
    Object.assign(this, { url, take, state, position });
    this.pause = FIRST_PAUSE;
    this.timer = null;
    this.reading = null;
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.lost("the browser is offline"));
    document.addEventListener("visibilitychange", () => {
      // Perhaps somebody has signed in elsewhere.
      if (!document.hidden && this.reading === null) this.retry();
    });
  }

  start() {
    this.read().catch((error) => this.lost(String(error.message ?? error)));
  }

  /** At once, not after the pause. */
  retry() {
    this.pause = FIRST_PAUSE;
    clearTimeout(this.timer);
    this.timer = null;
    this.reading?.abort();
    this.start();
  }

  /** What was begun is over; another attempt after a pause. */
  lost(reason, pause = this.pause) {
    this.reading?.abort();
    this.reading = null;
    this.state("reconnecting", reason);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.retryQuietly(), pause * (0.75 + Math.random() / 2));
  }

  retryQuietly() {
    this.timer = null;
    this.start();
  }

  async read() {
    const reading = new AbortController();
    this.reading = reading;
    const watchdog = { timer: null };
    const heard = () => {
      clearTimeout(watchdog.timer);
      watchdog.timer = setTimeout(() => reading.abort(), SILENCE);
    };
    try {
      heard();
      const headers = { accept: "text/event-stream" };
      if (this.position()) headers["last-event-id"] = this.position();
      const options = { headers, signal: reading.signal, cache: "no-store", credentials: "same-origin" };
      const answer = await fetch(this.url, options);
      if (reading !== this.reading) return;
      if (answer.status === 401 || answer.status === 403) {
        this.reading = null;
        this.state(answer.status === 401 ? "signed-out" : "refused", "");
        return;
      }
      if (!answer.ok) {
        const wait = Number(answer.headers.get("retry-after")) * 1000;
        this.lost(`the server answers ${answer.status}`, Math.max(this.pause, wait || 0));
        return;
      }
      const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await text.read();
        if (reading !== this.reading) return;
        if (done) break;
        heard();
        rest = this.events(rest + value);
      }
      // The server ends a stream now and then; that is no fault.
      this.pause = FIRST_PAUSE;
      this.lost("the stream has ended");
    } catch (error) {
      if (reading === this.reading) this.lost(String(error.message ?? error));
    } finally {
      clearTimeout(watchdog.timer);
    }
  }

  /** Takes the events that are complete; gives back the rest. */
  events(text) {
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      let kind = "message";
      const data = [];
      for (const line of text.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) kind = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      text = text.slice(end + 2);
      if (data.length === 0) continue;
      this.take(kind, JSON.parse(data.join("\n")));
      this.pause = FIRST_PAUSE;
      this.state("live", "");
    }
    return text;
  }
}
