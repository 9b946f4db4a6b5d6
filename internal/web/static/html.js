// The two libraries that all modules of the page use, as one template tag.

import { h } from "./lib/preact/preact.mjs";
import htm from "./lib/htm/htm.mjs";

export { Component, createRef, render } from "./lib/preact/preact.mjs";

/** html`<p>…</p>` is an element. Values in it are text, never markup. */
export const html = htm.bind(h);
