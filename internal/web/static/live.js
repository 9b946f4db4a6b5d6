// The locks, kept up to date over a WebSocket.

/** The server sends something every 5 s. After so many milliseconds of silence it is asked anew. */
const SILENCE = 15_000;

const collator = new Intl.Collator(undefined, { numeric: true });

// Compares names so that bench-2 comes before bench-10.
const compareNames = (a, b) => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** Returns a row with its times as numbers too. */
export function prepare(row) {
  row.start = Date.parse(row.since);
  row.end = Date.parse(row.expires_at);
  return row;
}

/** Returns the state of a lock at a time of the server's clock: the server says no more of it. */
export function stateOf(row, now) {
  return row.state !== "out of service" && row.end <= now ? "expired" : row.state;
}

/** The connection. It calls changed(names) after each change: null stands for all of them. */
export class Live {
  rows = new Map(); // by name
  status = "connecting"; // or live, reconnecting, signed out
  lastHeard = 0; // when the last frame came, by this computer's clock
  #skew = 0; // the server's clock less this computer's
  #names = null; // of all rows, in order; null: to be sorted
  #failures = 0;
  #opened = false; // all rows have come once

  constructor(query, changed) {
    this.query = query;
    this.changed = changed;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    this.#connect();
  }

  /** Returns the time by the server's clock. */
  now() {
    return Date.now() + this.#skew;
  }

  /** Returns the names of all locks, in order. */
  names() {
    this.#names ??= [...this.rows.keys()].sort(compareNames);
    return this.#names;
  }

  /** Records a row that came as the response to an action. */
  put(row) {
    this.#put(row);
    this.changed([row.name]);
  }

  #put(row) {
    if (!this.rows.has(row.name)) this.#place(row.name, 0, row.name);
    this.rows.set(row.name, prepare(row));
  }

  #delete(name) {
    if (this.rows.delete(name)) this.#place(name, 1);
  }

  // Replaces a number of names by others at the place of one, so that a change costs no sort.
  #place(name, remove, ...add) {
    if (!this.#names) return;
    let low = 0;
    for (let high = this.#names.length; low < high;) {
      const middle = (low + high) >> 1;
      if (compareNames(this.#names[middle], name) < 0) low = middle + 1;
      else high = middle;
    }
    this.#names.splice(low, remove, ...add);
  }

  #connect() {
    const url = new URL("/page/live" + this.query, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onmessage = (m) => socket === this.socket && this.#receive(JSON.parse(m.data));
    socket.onclose = () => this.#closed(socket);
    this.#watch(socket);
  }

  // Gives up a connection that is silent.
  #watch(socket) {
    clearTimeout(this.watching);
    this.watching = setTimeout(() => this.#closed(socket), SILENCE);
  }

  #receive(frame) {
    this.#failures = 0;
    this.lastHeard = Date.now();
    this.#watch(this.socket);
    if (frame.now) this.#skew = Date.parse(frame.now) - Date.now();
    if (frame.signed_out) return this.#signedOut();
    if (frame.full) {
      if (this.#opened && differs(frame)) return location.reload();
      this.#opened = true;
      this.rows = new Map();
      this.#names = null;
    }
    for (const row of frame.locks ?? []) this.#put(row);
    for (const name of frame.gone ?? []) this.#delete(name);
    const before = this.status;
    this.status = "live";
    const some = [...(frame.locks ?? []).map((row) => row.name), ...(frame.gone ?? [])];
    if (frame.full || before !== "live" || some.length) this.changed(frame.full ? null : some);
  }

  #closed(socket) {
    if (socket !== this.socket) return;
    this.#drop();
    if (this.status === "signed out") return;
    if (this.status === "live") {
      this.status = "reconnecting";
      this.changed([]);
    }
    const wait = Math.min(4000, 250 * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.retry = setTimeout(() => this.#again(), wait);
  }

  #drop() {
    clearTimeout(this.watching);
    clearTimeout(this.retry);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  // A WebSocket that is refused does not say why. A page that leads elsewhere does: to the form.
  async #again() {
    const signedOut = await fetch("/", { redirect: "manual", signal: AbortSignal.timeout(4000) })
      .then((r) => r.type === "opaqueredirect", () => false);
    if (this.socket || this.status === "signed out") return;
    if (signedOut) this.#signedOut();
    else this.#connect();
  }

  #hurry() {
    if (this.status !== "live" && this.status !== "signed out" && !this.socket) {
      clearTimeout(this.retry);
      this.#again();
    }
  }

  #signedOut() {
    this.status = "signed out";
    this.#drop();
    this.changed([]);
  }
}

// Reports whether the page was made by another version of the server, or for another user or role,
// than a frame is. The first frame does not count, so a page cannot load itself again and again.
function differs(frame) {
  const page = document.body.dataset;
  return ["user", "role", "version"].some((name) => frame[name] !== page[name]);
}
