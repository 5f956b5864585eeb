// What opens over the page: an event whole, the shortcuts, and signing in again.

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

export function showSignIn() {
  write(by("sign-in-fault"), "");
  if (!by("sign-in-dialog").open) by("sign-in-dialog").showModal();
}

/** `back()` is called once somebody is signed in. */
export function setUpSignIn(back) {
  by("sign-in").addEventListener("click", showSignIn);
  by("sign-in-cancel").addEventListener("click", () => by("sign-in-dialog").close());
  by("sign-in-form").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const form = submitted.target;
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
      by("sign-in-dialog").close();
      back();
    } catch (error) {
      write(by("sign-in-fault"), `It can't be reached: ${error.message}`);
    }
  });
}
