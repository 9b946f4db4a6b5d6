// The table of all locks. Only the rows that can be seen are in the document.

import { Component, createRef, html } from "./html.js";
import { stateOf } from "./live.js";
import { Ago, Holder, lockURL, Remaining, State } from "./parts.js";

/** Up to so many rows are all in the document, so that the browser's own search finds them. */
const FEW = 150;

/** So many rows above and below those that can be seen are in the document too. */
const MARGIN = 12;

/** The columns: the key in the URL, the title, and what they are sorted by. null: the name. */
const columns = [
  { key: "name", title: "Name", by: null },
  { key: "state", title: "State", by: (row, now) => stateOf(row, now) },
  { key: "holder", title: "Holder", by: (row) => (row.holder || row.owner || "").toLowerCase() },
  { key: "reason", title: "Reason", by: (row) => (row.reason ?? "").toLowerCase() || "\uffff" },
  { key: "since", title: "Held for", by: (row) => -row.start },
  { key: "remaining", title: "Remaining", by: (row) => row.end },
  { key: "waiters", title: "Waiters", by: (row) => -(row.waiters ?? 0) },
];

/** Returns the rows that match, in order. The view is { q, mine, sort } as the URL has it. */
export function select(live, { q, mine, sort }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [];
  for (const name of live.names()) {
    const row = live.rows.get(name);
    if ((!mine || row.mine) && words.every((word) => text(row).includes(word))) rows.push(row);
  }
  const down = sort.startsWith("-");
  const by = columns.find((c) => c.key === sort.replace("-", ""))?.by;
  if (by) {
    const now = live.now();
    const keys = new Map(rows.map((row) => [row, by(row, now)]));
    rows.sort((a, b) => compare(keys.get(a), keys.get(b))); // stable: else by name
  }
  return down ? rows.reverse() : rows;
}

// What the filter looks at. It is made once for each row, when somebody filters.
function text(row) {
  return (row.text ??= [row.name, row.state, row.holder, row.reason, row.link, row.owner, row.ip]
    .join("\n").toLowerCase());
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** The table. It is given the rows that match, in order. */
export class Table extends Component {
  body = createRef();
  state = { first: 0, last: 40 };

  componentDidMount() {
    addEventListener("scroll", this.measure, { passive: true });
    addEventListener("resize", this.measure);
    this.measure();
  }

  componentWillUnmount() {
    removeEventListener("scroll", this.measure);
    removeEventListener("resize", this.measure);
  }

  componentDidUpdate(before) {
    if (before.rows.length !== this.props.rows.length) this.measure();
  }

  // Finds which rows can be seen. All are of the same height.
  measure = () => {
    const row = this.body.current?.querySelector("tr[aria-rowindex]");
    if (!row) return;
    const height = row.getBoundingClientRect().height;
    const above = Math.max(0, -this.body.current.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / height) - MARGIN);
    const last = Math.ceil((above + innerHeight) / height) + MARGIN;
    if (first !== this.state.first || last !== this.state.last || height !== this.state.height) {
      this.setState({ first, last, height });
    }
  };

  render({ rows, now, sort, setSort, open }, { first, last, height }) {
    if (rows.length <= FEW) [first, last] = [0, rows.length];
    first = Math.min(first, Math.max(0, rows.length - 1));
    last = Math.min(last, rows.length);
    return html`<table role="table" class="locks" aria-label="Locks"
        aria-rowcount=${rows.length + 1}>
      <thead role="rowgroup"><tr role="row" aria-rowindex="1">
        ${columns.map((c) =>
          html`<${Head} key=${c.key} column=${c} sort=${sort} set=${setSort} />`)}
        ${open && html`<th role="columnheader" scope="col" class="c-actions">
          <span class="hidden">Actions</span></th>`}
      </tr></thead>
      <tbody role="rowgroup" ref=${this.body}>
        <${Gap} key="above" rows=${first} height=${height} />
        ${rows.slice(first, last).map((row, i) => html`<${Row} key=${row.name} row=${row} now=${now}
          index=${first + i + 2} open=${open} />`)}
        <${Gap} key="below" rows=${rows.length - last} height=${height} />
      </tbody>
    </table>`;
  }
}

// The space of rows that are not in the document.
function Gap({ rows, height }) {
  if (!(rows > 0)) return null;
  const style = { height: `${rows * (height || 40)}px` };
  return html`<tr class="gap" aria-hidden="true" style=${style} />`;
}

function Head({ column, sort, set }) {
  const { key, title } = column;
  const now = sort === key ? "ascending" : sort === "-" + key ? "descending" : undefined;
  return html`<th role="columnheader" scope="col" class=${"c-" + key} aria-sort=${now}>
    <button type="button" onClick=${() => set(now === "ascending" ? "-" + key : key)}>
      ${title}<svg viewBox="0 0 8 8" width="8" height="8" aria-hidden="true"
        class=${now ?? "unsorted"}><path d="M4 1 7.5 7h-7z" /></svg>
    </button>
  </th>`;
}

// A row. The class says where a narrow screen shows a cell.
function Row({ row, now, index, open }) {
  const reason = row.reason ?? "";
  return html`<tr role="row" aria-rowindex=${index} data-name=${row.name}
      class=${row.mine && "mine"}>
    <th role="rowheader" scope="row" class="c-name">
      <a href=${lockURL(row.name)} title=${row.name}>${row.name}</a>
      ${row.mine && html`<span class="badge" title="You hold it">mine</span>`}</th>
    <td role="cell" class="c-state"><${State} state=${stateOf(row, now)} stale=${row.stale} /></td>
    <td role="cell" class="c-holder"><${Holder} row=${row} /></td>
    <td role="cell" class="c-reason" title=${reason}>${reason}</td>
    <td role="cell" class="c-since"><span class="narrow">for </span>
      <${Ago} at=${row.start} now=${now} /></td>
    <td role="cell" class="c-remaining"><${Remaining} row=${row} now=${now} /></td>
    <td role="cell" class="c-waiters">${row.waiters > 0 &&
      html`${row.waiters}<span class="narrow">${" "}waiting</span>`}</td>
    ${open && html`<td role="cell" class="c-actions">
      <button type="button" onClick=${() => open(row.name, "menu", row)}
        aria-label=${"Actions for " + row.name}>Actions</button></td>`}
  </tr>`;
}

/** What narrow screens have instead of the heads of the columns. */
export function SortBy({ sort, set }) {
  return html`<label class="sort-by">Sort by
    <select value=${sort} onChange=${(e) => set(e.target.value)}>
      ${columns.map((c) => html`<option key=${c.key} value=${c.key}>${c.title}</option>`)}
    </select></label>`;
}
