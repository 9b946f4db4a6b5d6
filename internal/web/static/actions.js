// What one can do with a lock: the list of it, a dialog for each, and the command lines.

import { exact, flag, fromInput, isForever, quote, span, toInput } from "./format.js";
import { Component, createRef, html } from "./html.js";
import { At, Command, Holder, Sentence, shownState } from "./parts.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const ROUND = 30_000; // fields have whole minutes

/** Each action: its name, what it does, and the command line that does the same. */
const actions = {
  extend: {
    label: "Extend",
    title: (name) => `Extend ${name}`,
    about: () => "The lock then ends later.",
    times: (row, now) => Math.max(row.end, now),
    command: ({ row, until, now }) => ["extend", row.id, "--for", flag(until - now)],
    done: (name, { until }) => `${name} is extended until ${exact(until)}.`,
  },
  release: {
    label: "Release",
    title: (name) => `Release ${name}?`,
    about: ({ row }) => `It is free immediately${next(row)}.`,
    command: ({ row }) => ["release", row.id],
    done: (name) => `${name} is released.`,
  },
  break: {
    label: "Break",
    title: (name) => `Break the lock of ${name}?`,
    danger: true,
    reason: "required",
    command: ({ row, reason }) => ["rm", row.id, "--reason", reason || "…"],
    done: (name) => `The lock of ${name} is broken.`,
  },
  reserve: {
    label: "Reserve",
    title: (name) => (name ? `Reserve ${name}` : "Reserve a lock"),
    about: () => "Nobody else gets it until then, unless you release it before.",
    times: (row, now) => now,
    reason: "optional",
    command: ({ name, until, reason, now }) => (reason
      ? ["hold", "--for", flag(until - now), "--reason", reason, ...last(name)]
      : ["acquire", "--for", flag(until - now), ...last(name)]),
    done: (name, { until }) => `${name} is reserved until ${exact(until)}.`,
  },
  service: {
    label: "Take out of service",
    title: (name) => `Take ${name} out of service`,
    about: () => "Nobody can use it until it is put back in service. " +
      "Those who want it see the reason.",
    reason: "required",
    command: ({ name, reason }) =>
      ["hold", "--for", "0", "--reason", reason || "…", ...last(name)],
    done: (name) => `${name} is out of service.`,
  },
};

// A name that looks like a flag comes after "--".
const last = (name) => (name.startsWith("-") ? ["--", quote(name)] : [quote(name || "NAME")]);

const next = (row) => (row?.waiters > 0 ? ", and goes to the first who waits" : "");

/** Returns what can be done with a name: with its lock, or with a name that nobody has. */
function available(row, now) {
  if (!row) return ["reserve", "service"];
  const end = !row.mine ? ["break"] : row.may?.release ? ["release", "break"] : ["release"];
  return shownState(row, now) === "out of service"
    ? [...end, "extend"]
    : ["extend", ...end, "reserve", "service"];
}

/** Returns the label of an action: an end of what is out of service puts it back. */
function label(action, row) {
  const back = row?.state === "out of service" && (action === "release" || action === "break");
  return back ? "Put back in service" : actions[action].label;
}

/** Returns what the button that does it says. */
const verb = (action, row) => label(action, row).replace(/^Break$/, "Break the lock");

/** The list of actions. Those that are not allowed are greyed, with the reason. */
export function ActionList({ name, row, may, now, open }) {
  return html`<ul class="actions">
    ${available(row, now).map((action) => {
      const why = may?.[action];
      const id = `why-${action}`;
      return html`<li key=${action}>
        <button type="button" class=${actions[action].danger && !why ? "danger" : ""}
          aria-disabled=${why ? "true" : undefined} aria-describedby=${why ? id : undefined}
          onClick=${() => why || open(name, action, row)}>${label(action, row)}…</button>
        ${why && html`<span class="why" id=${id}><${Sentence} text=${why} /></span>`}
      </li>`;
    })}
  </ul>`;
}

// A dialog of the browser: it keeps the focus, and Escape closes it.
class Dialog extends Component {
  dialog = createRef();

  componentDidMount() {
    this.dialog.current.showModal();
  }

  // Closing gives the focus back. Its event comes later, when another dialog may be open.
  componentWillUnmount() {
    this.gone = true;
    this.dialog.current.close();
  }

  render({ title, close, children }) {
    return html`<dialog ref=${this.dialog} aria-labelledby="dialog-title"
        onClose=${() => this.gone || close()}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </dialog>`;
  }
}

/** The actions of one row of the table. */
export function Menu({ name, row, now, open, close }) {
  return html`<${Dialog} title=${name} close=${close}>
    ${row
      ? html`<${Facts} row=${row} now=${now} />`
      : html`<p>It is free now.</p>`}
    <${ActionList} name=${name} row=${row} may=${row?.may} now=${now} open=${open} />
    <p class="buttons"><button type="button" onClick=${close}>Close</button></p>
  <//>`;
}

// Who has the lock, since when and why.
function Facts({ row, now }) {
  return html`<dl class="facts">
    <dt>Holder</dt><dd><${Holder} row=${row} />${row.ip && html` <span class="muted">
      from ${row.ip}</span>`}</dd>
    ${row.reason && html`<dt>Reason</dt><dd>${row.reason}</dd>`}
    <dt>Held for</dt><dd>${span(now - row.start)}, since <${At} at=${row.start} /></dd>
    ${isForever(row.end, now) || html`<dt>Ends</dt><dd><${At} at=${row.end} />${row.renewed &&
      ", but its holder renews it"}</dd>`}
  </dl>`;
}

// What happens to the work of a holder whose lock is broken.
function Consequences({ row }) {
  return html`<ul class="consequences">
    <li>${row.renewed
      ? "A program holds it and renews it. relukko run and programs of relukko-go learn of the " +
        "break within a moment and stop their work. Other clients may go on working."
      : "No program renews it, so nothing stops the work of its holder: tell them."}</li>
    <li>${row.waiters > 0
      ? `${row.waiters} waiting: the first of them gets the lock immediately.`
      : "The next who asks gets the lock."}</li>
    <li>The history keeps your name and the reason.</li>
  </ul>`;
}

/** The dialog of one action. It acts on the lock that was there when it was opened. */
export class ActionDialog extends Component {
  constructor(props) {
    super(props);
    const row = props.row; // of that instant, whatever comes later
    const { times } = actions[props.action];
    const until = times && toInput(times(row, props.now) + HOUR + ROUND);
    this.state = { row, name: props.name, until, reason: "", error: "", busy: false };
  }

  submit = async (event) => {
    event.preventDefault();
    const { action, close, done } = this.props;
    const { row, name, until, reason } = this.state;
    const end = until && fromInput(until);
    this.setState({ busy: true, error: "" });
    const body = {
      name, id: row?.id, reason: reason.trim(),
      until: end ? new Date(end).toISOString() : undefined,
    };
    const answer = await post("/page/" + action, body);
    this.setState({ busy: false, error: answer.error ?? "" });
    if (!answer.error) {
      close();
      done(actions[action].done(name, { until: end }), name, answer.lock);
    }
  };

  command() {
    const { action, now } = this.props;
    const { row, name, until, reason } = this.state;
    const end = fromInput(until);
    if (until !== undefined && !(end > now)) return "";
    const words = actions[action].command({
      row, name, until: end, now, reason: reason.trim() && quote(reason.trim()),
    });
    const base = document.body.dataset.base;
    const url = base && base !== "http://localhost:3000" ? ["--url", quote(base)] : [];
    return ["relukko", words[0], ...url, ...words.slice(1)].join(" ");
  }

  render({ action, current, now, close }, { row, name, error, busy, until }) {
    const { title, about, danger, times, reason } = actions[action];
    const ended = row && current?.id !== row.id;
    const line = this.command();
    return html`<${Dialog} title=${title(this.props.name)} close=${close}>
      <form onSubmit=${this.submit}>
        ${about && html`<p>${about({ row })}</p>`}
        ${row && html`<${Facts} row=${row} now=${now} />`}
        ${action === "break" && html`<${Consequences} row=${row} />`}
        ${!this.props.name && html`<label>Name
          <input name="name" required maxlength="255" value=${name} autofocus
            onInput=${(e) => this.setState({ name: e.target.value })} /></label>`}
        ${times && this.times(times(row, now), until)}
        ${reason && html`<label>Reason${reason === "optional" && " (optional)"}
          <input name="reason" required=${reason === "required"} maxlength="200"
            autofocus=${!times} autocomplete="off" value=${this.state.reason}
            onInput=${(e) => this.setState({ reason: e.target.value })} /></label>`}
        ${ended && html`<p class="notice" role="alert">
          This lock has ended meanwhile. Nothing is left to do here.</p>`}
        ${error && html`<p class="error" role="alert"><${Sentence} text=${error} /></p>`}
        <p class="buttons">
          <button type="submit" class=${danger ? "danger primary" : "primary"}
            disabled=${busy || ended}>${verb(action, row)}</button>
          <button type="button" onClick=${close}>Cancel</button>
        </p>
      </form>
      ${line && html`<p class="same">The command line that does the same:</p>
        <${Command} line=${line} />`}
    <//>`;
  }

  // The time until which: a field, and buttons that set it.
  times(from, until) {
    const set = (ms) => this.setState({ until: toInput(ms + ROUND) });
    const lengths = { "30m": HOUR / 2, "1h": HOUR, "2h": 2 * HOUR, "8h": 8 * HOUR,
      "1d": DAY, "7d": 7 * DAY };
    const end = fromInput(until);
    return html`<label>Until
        <input type="datetime-local" name="until" required value=${until}
          min=${toInput(this.props.now)}
          onInput=${(e) => this.setState({ until: e.target.value })} />
      </label>
      <div class="lengths" role="group" aria-label="How much longer">
        ${Object.entries(lengths).map(([text, ms]) => html`<button type="button" key=${text}
          onClick=${() => set(from + ms)}>+${text}</button>`)}
        ${end > this.props.now && html`<span class="muted">
          ${flag(end - this.props.now)} from now</span>`}
      </div>`;
  }
}

async function post(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    return { error: answer.error || `The server refused it: ${response.status} ` +
      `${response.statusText}. Sign in again if it was restarted.` };
  } catch {
    return { error: "The server cannot be reached. Whether it was done is unknown: look before " +
      "you try again." };
  }
}
