// What turnpike.js offers. docs/clients.md says what it promises.

/** An event, as CloudEvents 1.0 has it in JSON, with the attributes that the bus adds. */
export interface Event<Data = unknown> {
  id: string;
  source: string;
  type: string;
  specversion: string;
  queue: string;
  event: string;
  subject?: string;
  partitionkey?: string;
  /** When it happened, and when it was recorded: RFC 3339. */
  time?: string;
  recordedtime?: string;
  /** Whose it is: the publisher's principal. */
  owner?: string;
  datacontenttype?: string;
  data?: Data;
  /** Data that is no JSON. */
  data_base64?: string;
  [attribute: string]: unknown;
}

/** What a subscription tells. `cursor` is the place after it, on any broker of the same bus. */
export type Told<Data = unknown> = EventTold<Data> | GapTold | MissedTold | CaughtUpTold;

export interface EventTold<Data = unknown> {
  kind: "event";
  cursor: string;
  /** What was told before it. */
  prev: string;
  /** It was there when following began. */
  replay: boolean;
  event: Event<Data>;
}

/** Events that nobody can have any more. */
export interface GapTold {
  kind: "gap";
  cursor: string;
  from: string;
  to: string;
  /** How many; null where nobody can know. */
  lost: number | null;
  reason: "retention" | "lineage" | "reset" | "unreadable";
  queue: string;
}

/** A link of the chain was not there: what lies behind `expected` is being read again. */
export interface MissedTold {
  kind: "missed";
  cursor: string;
  expected: string;
  got: string;
}

/** All that was there when following began has been told. */
export interface CaughtUpTold {
  kind: "caught-up";
  cursor: string;
}

/** Called one after the other; a promise is waited for. */
export interface Handlers<Data = unknown> {
  event?(told: EventTold<Data>): unknown;
  gap?(told: GapTold): unknown;
  missed?(told: MissedTold): unknown;
  caughtUp?(told: CaughtUpTold): unknown;
  /** It was refused, the client has ended, or a handler threw. Without this it is an unhandled rejection. */
  error?(error: Error): void;
}

export interface FollowOptions {
  /** Closes it. */
  signal?: AbortSignal;
  /** `latest` unless given; `earliest`, `-PT5M`, a time (RFC 3339), or a cursor. */
  cursor?: string;
  /** Events that may wait to be taken: 1 to 4,096, 256 unless given. */
  credit?: number;
}

export interface SubscribeOptions extends FollowOptions {
  /** Of the client's own choice, 1 to 64 bytes; what a durable subscription is found by. */
  name?: string;
  /** `latest`: of each key only its last event. */
  view?: "stream" | "latest";
  /** The server keeps its place, for seven days after its last use. */
  durable?: boolean;
}

export interface Outgoing {
  queue: string;
  event: string;
  subject?: string;
  /** What orders: `partitionkey`. The subject unless given. */
  key?: string;
  data?: unknown;
  /** Publishing it again under the same id records nothing. Made up unless given. */
  id?: string;
  /** `stored` unless given; `fsynced`, `replicated:2`, `delivered`, `delivered:group,group`. */
  confirm?: string;
}

export interface PublishOptions {
  /** How long to try, in ms: 60,000 unless given. */
  timeout?: number;
  /** Gives it up: it breaks with `aborted`, and may be recorded or not. */
  signal?: AbortSignal;
}

export interface Receipt {
  id: string;
  cursor: string;
  confirm: string;
  requested: string;
  duplicate?: boolean;
  degraded?: boolean;
  reason?: string;
  groups?: Record<string, string>;
}

export type State = "connecting" | "open" | "reconnecting" | "closed";
export type Transport = "websocket" | "sse" | "long-poll";

export interface ClientOptions {
  /** What the client calls itself, for logs. */
  client?: string;
  /** Header fields of each request. Browsers can't send them with a WebSocket: they follow by SSE then. */
  headers?: Record<string, string> | ((refused: TurnpikeError | null) => Record<string, string> | Promise<Record<string, string>>);
  /** A principal's token; for who reaches the broker without a gateway. A function is asked at each connection, and is told so when
   * the one before was refused. */
  token?: string | ((refused: TurnpikeError | null) => string | Promise<string>);
  /** Which ways may be used, best first. */
  transports?: Transport[];
  /** In place of the global ones. */
  WebSocket?: unknown;
  fetch?: typeof fetch;
  /** As of `fetch`; `same-origin` unless given. */
  credentials?: "omit" | "same-origin" | "include";
  /** The bounds of the pauses between attempts, in ms: 250 and 30,000 unless given. */
  backoff?: { first?: number; most?: number };
  /** How long a connection may take to stand, and a server to answer whether it is there, in ms: 10,000 unless given. */
  openWithin?: number;
  /** How it goes. `detail`: the transport, or why not. `error`: why it was closed for good. */
  state?(state: State, detail: string, error: TurnpikeError | null): void;
}

/** Who is in a room. */
export interface Member {
  user: string;
  /** RFC 3339. */
  since: string;
  /** 0 of one whose connection was lost, for a time of grace. */
  connections: number;
}

export interface Presence {
  user: string;
  online: boolean;
  /** Since when, of one who is: RFC 3339. */
  since?: string;
  /** When its last connection ended, if that is known. */
  last_seen?: string;
  connections: number;
}

export class Client {
  /** `url`: where the broker or its gateway is, `https://…` or `wss://…`; the page's own origin unless given. */
  constructor(url?: string, options?: ClientOptions);
  readonly state: State;
  subscribe<Data = unknown>(filter: string, options?: SubscribeOptions, handlers?: Handlers<Data>): Subscription<Data>;
  join<Data = unknown>(room: string, options?: FollowOptions, handlers?: Handlers<Data>): Room<Data>;
  publish(event: Outgoing, options?: PublishOptions): Promise<Receipt>;
  /** The first 256. */
  members(room: string): Promise<Member[]>;
  /** Of 1 to 256 users. */
  presence(users: string[]): Promise<Presence[]>;
  /** Comes back at once, not after the pause. */
  retry(): void;
  close(): void;
}

/** For one reader: what was given last counts as done with when the next is asked for. */
export class Subscription<Data = unknown> implements AsyncIterableIterator<Told<Data>> {
  readonly name: string;
  /** After what the program is done with: where another one would go on. */
  readonly cursor: string | null;
  /** That it follows, for the first time. */
  readonly ready: Promise<{ cursor: string | null; replaying: number | null }>;
  next(): Promise<IteratorResult<Told<Data>, undefined>>;
  return(): Promise<IteratorResult<Told<Data>, undefined>>;
  [Symbol.asyncIterator](): this;
  close(): void;
}

export class Room<Data = unknown> extends Subscription<Data> {
  readonly room: string;
  /** Who was there at joining. */
  readonly members: Member[];
  publish(event: string, data?: unknown, options?: { id?: string; confirm?: string } & PublishOptions): Promise<Receipt>;
  leave(): void;
}

/** Something was refused or is over. Programs go by `code`: docs/errors.md, and `closed`, `timeout`, `aborted`, `protocol`, `version`, `goaway`; of a durable subscription `taken` and `removed`. */
export class TurnpikeError extends Error {
  readonly code: string;
  /** The status of an answer over HTTP. */
  readonly status?: number;
  /** In how many ms the server would be asked again, if it said so. */
  readonly retryAfter?: number;
  /** The event's, where it is one's. */
  readonly id?: string;
}

export interface StreamOptions {
  block(told: { event: string; data: string; id: string | null }): unknown;
  /** `detail` says why; `status` with which one it was turned away. */
  state?(state: "live" | "reconnecting" | "refused", detail: string, status?: number): void;
  lastEventId?(): string | null;
  /** How long it may be silent, in ms: 40,000 unless given. */
  silence?: number;
  first?: number;
  most?: number;
}

/** A stream of server-sent events of Turnpike's that comes again by itself, from where it was. */
export class EventStream {
  constructor(url: string, options: StreamOptions);
  readonly reading: boolean;
  open(): void;
  interrupt(reason: string): void;
  close(): void;
}
