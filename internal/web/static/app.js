// The page. The server renders the frame around it, and <body> has what it needs to know.

import { ActionDialog, Menu } from "./actions.js";
import { Component, createRef, html, render } from "./html.js";
import { Live } from "./live.js";
import { LockPage } from "./lock.js";
import { LiveMark, lockURL, signInURL } from "./parts.js";
import { select, SortBy, Table } from "./table.js";

const page = document.body.dataset;
const wall = new URLSearchParams(location.search).has("wall");

class App extends Component {
  constructor() {
    super();
    const query = new URLSearchParams(location.search);
    this.state = {
      q: query.get("q") ?? "", mine: query.has("mine"), sort: query.get("sort") ?? "name",
      changes: 0, dialog: null, said: "",
    };
    const only = page.page === "lock" ? "?name=" + encodeURIComponent(page.name) : "";
    this.live = new Live(only, this.changed);
  }

  filter = createRef();

  componentDidMount() {
    setInterval(() => this.setState({}), 1000); // times go on
    addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, select, textarea, dialog");
      if (event.key === "/" && !typing && this.filter.current) {
        event.preventDefault();
        this.filter.current.focus();
      }
    });
  }

  changed = (names) => {
    const mine = page.page !== "lock" || !names || names.includes(page.name);
    this.setState((s) => ({ changes: s.changes + (mine ? 1 : 0) }));
  };

  // The type of a screen on the wall is as large as the screen has room for.
  componentDidUpdate() {
    if (!wall) return;
    const lines = document.querySelectorAll(".locks tbody tr").length + 3;
    const size = Math.max(16, Math.min(innerWidth / 76, innerHeight / lines / 2.25));
    document.body.style.setProperty("--wall", `${Math.floor(size)}px`);
  }

  // The view is in the URL, so that it can be kept and passed on.
  view(change) {
    this.setState(change, () => {
      const url = new URL(location.href);
      const { q, mine, sort } = this.state;
      for (const [key, value] of Object.entries({ q, sort: sort === "name" ? "" : sort })) {
        if (value) url.searchParams.set(key, value);
        else url.searchParams.delete(key);
      }
      if (mine) url.searchParams.set("mine", "");
      else url.searchParams.delete("mine");
      history.replaceState(null, "", url);
    });
  }

  open = (name, action, row) => this.setState({ dialog: { name, action, row }, said: "" });

  close = () => this.setState({ dialog: null });

  done = (said, name, row) => {
    this.setState({ said });
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.setState({ said: "" }), 10_000);
    if (row && row.name === name) this.live.put(row);
  };

  dialog() {
    const { dialog } = this.state;
    if (!dialog) return null;
    const { name, action, row } = dialog;
    const now = this.live.now();
    const current = this.live.status === "connecting" ? row : this.live.rows.get(name);
    if (action === "menu") {
      return html`<${Menu} key="menu" name=${name} row=${current} now=${now} open=${this.open}
        close=${this.close} />`;
    }
    return html`<${ActionDialog} key=${action} name=${name} action=${action} row=${row} now=${now}
      current=${current} close=${this.close} done=${this.done} />`;
  }

  table() {
    const { q, mine, sort } = this.state;
    const rows = select(this.live, this.state);
    const may = page.user !== "" && !wall;
    return html`
      ${!wall && html`<div class="tools">
        <label class="filter"><span class="hidden">Filter</span>
          <input type="search" ref=${this.filter} value=${q} aria-keyshortcuts="/"
            placeholder="Filter by name, holder, reason …"
            onInput=${(e) => this.view({ q: e.target.value })} /></label>
        ${page.user && html`<label class="check"><input type="checkbox" checked=${mine}
          onChange=${(e) => this.view({ mine: e.target.checked })} /> Mine</label>`}
        <${SortBy} sort=${sort.replace("-", "")} set=${(by) => this.view({ sort: by })} />
        <span class="count" role=${q ? "status" : undefined}>${count(rows.length, this.live)}</span>
        ${page.role !== "viewer" && page.user && html`<button type="button"
          onClick=${() => this.open("", "reserve")}>Reserve…</button>`}
      </div>`}
      ${rows.length > 0
        ? html`<${Table} rows=${rows} now=${this.live.now()} sort=${sort}
          open=${may && this.open} setSort=${(by) => this.view({ sort: by })} />`
        : this.live.status !== "connecting" &&
          html`<${Empty} q=${q} mine=${mine} live=${this.live} />`}`;
  }

  render(_, { said, changes }) {
    return html`
      <header>
        <a class="brand" href="/">Relukko</a>
        <${LiveMark} live=${this.live} />
        ${!wall && html`<${User} />`}
      </header>
      <main>
        <p class="said" role="status">${said}</p>
        ${page.page === "lock"
          ? html`<${LockPage} name=${page.name} live=${this.live} open=${this.open}
            changes=${changes} />`
          : this.table()}
      </main>
      ${!wall && page.page === "table" && html`<${Legend} />`}
      ${this.dialog()}`;
  }
}

// What is not clear from the table itself.
function Legend() {
  return html`<footer>
    <p><b>renewed</b>: a program holds it and renews it, until it releases it.${" "}
      <b>stale</b>: that program has stopped renewing it.</p>
    <p>Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}; hover for the exact
      one. <kbd>/</kbd> goes to the filter. <a href="/?wall">For a screen on the wall</a></p>
  </footer>`;
}

function count(shown, live) {
  const all = live.rows.size;
  if (live.status === "connecting") return "";
  const locks = `${all.toLocaleString()} ${all === 1 ? "lock" : "locks"}`;
  return shown === all ? locks : `${shown.toLocaleString()} of ${locks}`;
}

// What is there when no row matches. A name that nobody has has a page all the same.
function Empty({ q, mine, live }) {
  const name = q.trim();
  return html`<p class="empty">
    ${live.rows.size === 0 ? "Nobody has a lock." : `No lock${mine ? " of yours" : ""} matches.`}
    ${name && !live.rows.has(name) && html`${" "}
      <a href=${lockURL(name)}>The page of “${name}”</a> says who had it, and reserves it.`}
  </p>`;
}

// The user, and the way out. Signing out is a form: it works without this script too.
function User() {
  if (!page.user) return html`<a class="user" href=${signInURL()}>Sign in</a>`;
  return html`<form class="user" method="post" action="/sign-out">
    <span>${page.user} <span class="muted">(${page.role})</span></span>
    <button type="submit">Sign out</button>
  </form>`;
}

if (wall) document.body.classList.add("wall");
render(html`<${App} />`, document.getElementById("app"));
