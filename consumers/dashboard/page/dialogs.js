// What opens over the page: an event whole, the shortcuts, and signing in.

import { write } from "./text.js";

const by = (id) => document.getElementById(id);

export async function showEvent({ queue, event, partition, position }) {
  write(by("event-title"), `${queue}/${event} · partition ${partition}, position ${position}`);
  write(by("event-text"), "…");
  by("event-dialog").showModal();
  write(by("event-text"), await text(`/dashboard/events/${queue}/${partition}/${position}`));
}

async function text(url) {
  try {
    const answer = await fetch(url, { credentials: "same-origin", cache: "no-store" });
    const told = await answer.json();
    return answer.ok ? JSON.stringify(told, null, 2) : (told.detail ?? `the server answers ${answer.status}`);
  } catch (error) {
    return `It can't be had at the moment: ${error.message}`;
  }
}

export function showHelp() {
  if (!by("help-dialog").open) by("help-dialog").showModal();
}

/** Why it asks: the title and a sentence. */
const REASONS = {
  first: ["Sign in", "The figures are for operators of this system."],
  ended: ["Sign in again", "The session has ended. The page goes on from where it was."],
  refused: ["No permission", "Your account may not see this. Sign in with another one, that has the scope dashboard:read."],
};

export function askToSignIn(reason) {
  const [title, why] = REASONS[reason];
  write(by("sign-in-title"), title);
  write(by("sign-in-why"), why);
  showSignIn();
}

export function closeSignIn() {
  by("sign-in-dialog").close();
}

function showSignIn() {
  write(by("sign-in-fault"), "");
  if (!by("sign-in-dialog").open) by("sign-in-dialog").showModal();
}

/** `back()` is called once somebody is signed in. */
export function setUpSignIn(back) {
  by("sign-in").addEventListener("click", showSignIn);
  by("sign-in-cancel").addEventListener("click", closeSignIn);
  by("sign-in-form").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const form = submitted.target;
    write(by("sign-in-fault"), "");
    by("sign-in-go").disabled = true;
    const body = JSON.stringify(Object.fromEntries(new FormData(form)));
    try {
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/session", { method: "POST", headers, body, credentials: "same-origin" });
      if (!answer.ok) {
        const told = await answer.json().catch(() => ({}));
        write(by("sign-in-fault"), told.detail ?? `The server answers ${answer.status}.`);
        return;
      }
      form.reset();
      closeSignIn();
      back();
    } catch (error) {
      write(by("sign-in-fault"), `It can't be reached: ${error.message}`);
    } finally {
      by("sign-in-go").disabled = false;
    }
  });
}
