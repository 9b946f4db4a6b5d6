// Small parts that both pages use.

import { brief, exact, isForever, span } from "./format.js";
import { html } from "./html.js";
import { stateOf } from "./live.js";

// A state is told by its shape and its word; the colour only helps.
const shapes = {
  held: html`<circle cx="6" cy="6" r="4.5" />`,
  expired: html`<path d="M6 1.2 11.2 10.5H.8z" />`,
  reserved: html`<path d="M6 .6 11.4 6 6 11.4.6 6z" />`,
  "out of service": html`<path d="M1.5 1.5h9v9h-9z" />`,
  free: html`<circle class="hollow" cx="6" cy="6" r="4" />`,
};

const explanations = {
  held: "Somebody works with it",
  expired: "Its time is over. It is free soon, unless its holder renews it",
  reserved: "Reserved by a person; no program renews it",
  "out of service": "Nobody can use it until it is put back in service",
  free: "Nobody has it",
};

export function State({ state, stale }) {
  return html`<span class="state" data-state=${state} title=${explanations[state]}>
    <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">${shapes[state]}</svg>
    <span>${state}</span>
    ${stale && state !== "expired" && html`<span class="badge" title=${STALE}>stale</span>`}
  </span>`;
}

const STALE = "Its holder has stopped renewing it, and may not be there any more";

/** Returns the state by which a lock counts for a person: free where there is none. */
export const shownState = (row, now) => (row ? stateOf(row, now) : "free");

/** The holder: a link where the creator is one. Only http and https become links. */
export function Holder({ row }) {
  const link = /^https?:\/\//.test(row.link ?? "") && row.link;
  const name = row.holder || row.owner || "unknown";
  return link
    ? html`<a href=${link} rel="noreferrer noopener" title=${link}>${row.holder || link}</a>`
    : html`<span title=${name}>${name}</span>`;
}

/** How long ago something was; the exact time on hover. */
export function Ago({ at, now }) {
  if (!(at > 0)) return html`<span>–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${exact(at)}>
    ${span(now - at)}</time>`;
}

/** A time to the minute; the exact one on hover. */
export function At({ at }) {
  if (!(at > 0)) return html`<span>–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${exact(at)}>${brief(at)}</time>`;
}

/** What is left of a lock. */
export function Remaining({ row, now, long }) {
  const left = row.end - now;
  if (isForever(row.end, now)) return html`<span>until released</span>`;
  const exactly = exact(row.end);
  const at = new Date(row.end).toISOString();
  if (left <= 0) {
    const ago = span(-left).split(" ")[0];
    return html`<time class="over" datetime=${at} title=${exactly}>ended ${ago} ago</time>`;
  }
  return html`<span class="narrow">left </span>
    <time datetime=${at} title=${exactly}>${span(left)}</time>
    ${row.renewed && html`<span class="muted" title=${RENEWED}>${long
      ? ", but its holder renews it" : ", renewed"}</span>`}`;
}

const RENEWED = "Its holder renews it all the time, so it lasts until the holder releases it";

/** A command line with a button that copies it. */
export function Command({ line }) {
  const copy = async (event) => {
    const button = event.currentTarget;
    const said = await write(line, button).then(() => "Copied", () => "Select it, then copy");
    button.textContent = said;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  return html`<div class="command">
    <code tabindex="0">${line}</code>
    <button type="button" onClick=${copy} aria-label="Copy the command line">Copy</button>
  </div>`;
}

// The clipboard is only there on https and on this machine. Else the text is selected and copied.
async function write(text, button) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(button.previousElementSibling);
  if (!document.execCommand("copy")) throw new Error("the browser does not copy");
}

/** Whether the page shows what is true now. */
export function LiveMark({ live }) {
  const texts = {
    connecting: "Connecting…",
    live: "Live",
    reconnecting: "Reconnecting…",
    "signed out": "Signed out",
  };
  return html`<span class="live" data-status=${live.status} role="status">
    <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      ${live.status === "live" ? shapes.held : shapes.free}</svg>
    ${texts[live.status]}
    ${live.status === "reconnecting" && html`<span class="muted">
      ${" "}as of ${new Date(live.lastHeard).toLocaleTimeString()}</span>`}
    ${live.status === "signed out" && html`${" "}<a href=${signInURL()}>Sign in</a>`}
  </span>`;
}

/** A sentence in which `…` is a command. */
export function Sentence({ text }) {
  return text.split("`").map((part, i) => (i % 2 ? html`<code key=${i}>${part}</code>` : part));
}

/** Returns the URL of the form that leads back to this page. */
export const signInURL = () =>
  "/sign-in?next=" + encodeURIComponent(location.pathname + location.search);

/** Returns the URL of the page of a name. */
export const lockURL = (name) => "/lock?name=" + encodeURIComponent(name);
