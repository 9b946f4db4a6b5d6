// The page of one name.

import { ActionList } from "./actions.js";
import { Chart } from "./chart.js";
import { seconds, span } from "./format.js";
import { Component, html } from "./html.js";
import { prepare } from "./live.js";
import { Ago, At, Holder, lockURL, Remaining, shownState, State } from "./parts.js";

/** It is asked for anew after a change, at most once a second, and each 10 s in any case. */
const SOON = 1000;
const LATER = 10_000;

export class LockPage extends Component {
  state = { data: null, error: "" };

  componentDidMount() {
    this.load();
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
    this.gone = true;
  }

  componentDidUpdate(before) {
    if (before.changes !== this.props.changes) this.schedule(SOON);
  }

  // Asks again so long after the last time.
  schedule(wait) {
    const at = Math.max(Date.now(), this.asked + wait);
    if (this.loading || (this.timer && at >= this.at)) return;
    clearTimeout(this.timer);
    this.at = at;
    this.timer = setTimeout(() => this.load(), at - Date.now());
  }

  async load() {
    this.loading = true;
    this.asked = Date.now();
    this.timer = undefined;
    if (document.hidden && this.state.data) {
      this.loading = false;
      return this.schedule(LATER);
    }
    const { changes, name } = this.props;
    const next = {};
    try {
      const query = new URLSearchParams({ name, offset: -new Date().getTimezoneOffset() });
      const response = await fetch("/page/lock?" + query, { signal: AbortSignal.timeout(LATER) });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      if (answer.lock) prepare(answer.lock);
      Object.assign(next, { data: answer, error: "" });
    } catch (e) {
      next.error = e.message || "it cannot be reached";
    }
    this.loading = false;
    if (this.gone) return;
    this.setState(next);
    this.schedule(changes === this.props.changes ? LATER : SOON);
  }

  render({ name, live, open }, { data, error }) {
    const now = live.now();
    // The socket knows sooner, the response knows more.
    const row = live.status === "connecting" ? data?.lock : live.rows.get(name);
    // What may be done with a free name is known once the response knows that it is free.
    const may = row ? row.may : data?.lock ? null : data?.may;
    return html`
      <p class="path"><a href="/">All locks</a></p>
      <h1>${name}</h1>
      <div class="lock"><div>
        <section aria-label="Now">
          <p class="now">${(data || live.status !== "connecting") &&
              html`<${State} state=${shownState(row, now)} stale=${row?.stale} />`}
            ${row?.mine && html`<span class="badge">mine</span>`}</p>
          ${row && html`<${Details} row=${row} now=${now} />`}
          ${may && html`<${ActionList} name=${name} row=${row} now=${now} open=${open}
            may=${may} />`}
          ${error && html`<p class="error" role="alert">The server does not say more: ${error}</p>`}
        </section>
        ${data && html`<${Queue} name=${name} queue=${data.queue ?? []} now=${now} />`}
        </div>
        ${data && html`<${Busy} data=${data} /><${History} history=${data.history ?? []} />`}
      </div>`;
  }
}

function Details({ row, now }) {
  return html`<dl class="facts">
    <dt>Holder</dt><dd><${Holder} row=${row} /></dd>
    ${row.reason && html`<dt>Reason</dt><dd>${row.reason}</dd>`}
    <dt>Held for</dt><dd><${Ago} at=${row.start} now=${now} />, since <${At} at=${row.start} /></dd>
    <dt>Remaining</dt><dd><${Remaining} row=${row} now=${now} long /></dd>
    ${row.ip && html`<dt>Address</dt><dd>${row.ip}</dd>`}
    ${row.owner && html`<dt>API key of</dt><dd>${row.owner}</dd>`}
    ${row.token && html`<dt>Fencing token</dt><dd>${row.token}</dd>`}
  </dl>`;
}

function Queue({ name, queue, now }) {
  return html`<section aria-labelledby="queue">
    <h2 id="queue">Queue</h2>
    ${queue.length === 0
      ? html`<p class="muted">Nobody waits.</p>`
      : html`<table class="plain"><thead><tr><th scope="col" class="n">#</th>
          <th scope="col">Waiter</th><th scope="col">For</th><th scope="col">Priority</th></tr>
        </thead>
        <tbody>${queue.map((w, i) => html`<tr key=${i}><td class="n">${i + 1}</td>
          <th scope="row">${w.creator || w.owner}${w.names?.length > 1 && html`<span class="muted">
            ${" "}(also for ${others(w.names, name)})</span>`}</th>
          <td><${Ago} at=${Date.parse(w.since)} now=${now} /></td>
          <td>${w.priority || "–"}</td></tr>`)}</tbody></table>`}
  </section>`;
}

function others(names, name) {
  return names.filter((n) => n !== name).map((n, i) => html`${i > 0 && ", "}
    <a key=${n} href=${lockURL(n)}>${n}</a>`);
}

function Busy({ data }) {
  const { days = [], wait, hold, tenures } = data;
  const row = (title, p) => html`<tr><th scope="row">${title}</th>
    ${["p50", "p90", "p99"].map((q) => html`<td key=${q}>${p ? seconds(p[q]) : "–"}</td>`)}</tr>`;
  return html`<section aria-labelledby="busy">
    <h2 id="busy">Held, by day</h2>
    ${days.length > 0 && html`<${Chart} days=${days} />`}
    ${tenures > 0
      ? html`<table class="plain"><caption>Of the ${tenures} tenures in these days</caption>
        <thead><tr><td></td><th scope="col">half up to</th><th scope="col">90 % up to</th>
          <th scope="col">99 % up to</th></tr></thead>
        <tbody>${row("Waited", wait)}${row("Held", hold)}</tbody></table>`
      : html`<p class="muted">Nobody had it in these days.</p>`}
  </section>`;
}

function History({ history }) {
  return html`<section class="wide" aria-labelledby="history">
    <h2 id="history">Last holders</h2>
    ${history.length === 0
      ? html`<p class="muted">The server remembers none.</p>`
      : html`<div class="scrolls" tabindex="0" role="region" aria-labelledby="history">
        <table class="plain"><thead><tr><th scope="col">Holder</th><th scope="col">From</th>
          <th scope="col">Held</th><th scope="col">Waited before</th><th scope="col">Ended</th>
          <th scope="col">Reason</th></tr></thead>
        <tbody>${history.map((h) => {
          const [from, to] = [Date.parse(h.created_at), Date.parse(h.ended_at)];
          return html`<tr key=${h.created_at}><th scope="row">${h.creator || h.owner}</th>
            <td><${At} at=${from} /></td><td>${span(to - from)}</td>
            <td>${h.waited > 0 ? seconds(h.waited) : "–"}</td>
            <td class=${"ended-" + h.ended}>${h.ended}${h.ended_by && h.ended_by !== h.owner &&
              ` by ${h.ended_by}`}</td>
            <td>${h.reason}</td></tr>`;
        })}</tbody></table></div>`}
  </section>`;
}
