// What is answered to a request.

import { Lost, TurnpikeError, passes } from "./failure.js";

/** Characters of a frame, an event of a stream, an answer: no broker sends that many. */
export const MOST_CHARACTERS = 4_000_000;

/** The JSON of an answer. */
export async function json(answer) {
  const body = answer.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await body.read();
    if (done) return JSON.parse(text);
    text += decoder.decode(value, { stream: true });
    if (text.length > MOST_CHARACTERS) throw new Lost("an answer without an end");
  }
}

/** What an answer says that isn't well. */
export async function refusal(answer) {
  const { status } = answer;
  const problem = (await json(answer).catch(() => null)) ?? {};
  // Who stands between and finds nobody says it in its own words.
  const isAway = [408, 425, 502, 503, 504].includes(status);
  const code = isAway ? "unavailable" : String(problem.type ?? `http-${status}`).split("/").pop();
  const wait = Number(answer.headers.get("retry-after")) * 1_000;
  const message = String(problem.detail ?? `the server answers ${status}`);
  return new TurnpikeError(code, message, { status, retryAfter: wait > 0 ? wait : undefined });
}

/** What an answer means for the link: who is away or not well now is only lost. */
export async function lostBy(answer) {
  const error = await refusal(answer);
  return error.status >= 500 || passes(error) ? Lost.of(error) : error;
}
