// Both streams of one user, side by side. Each comes back as contracts/events.yaml asks: with the newest cursor, after the
// wait that it was given or one that doubles, and not at all after a code that says so. What was seen is dropped by its id.

const api = new URL("../v1/realtime/", location.href);
const PING_MS = 10_000;
const ANSWER_MS = 5_000;
const WAIT_MS = [250, 10_000];
const ROWS = 500;
// An EventSource hears only the names that it listens for: every type of contracts/events.yaml, filled in by the server.
const EVENT_TYPES = document.body.dataset.eventTypes.split(" ");
const ENDED = {
  4400: "this page sent what the contract does not describe",
  4401: "the token or its session is not valid any more; sign in again",
  4403: "not allowed",
};

/** What one stream looks like on the page. */
class View {
  constructor(id) {
    this.place = document.getElementById(id);
    this.rows = this.place.querySelector(".rows");
  }

  state(name, text = name) {
    const state = this.place.querySelector(".state");
    state.dataset.state = name;
    state.value = text;
  }

  figure(name, value) {
    this.place.querySelector(`[data-figure="${name}"]`).textContent = value;
  }

  note(text, bad = false) {
    const row = document.createElement("li");
    row.className = bad ? "note bad" : "note";
    row.append(clock(new Date()), text);
    this.#add(row);
  }

  event(event, replayed) {
    const row = document.createElement("li");
    row.dataset.id = event.id;
    row.classList.toggle("replayed", replayed);
    const details = row.appendChild(document.createElement("details"));
    const summary = details.appendChild(document.createElement("summary"));
    const type = document.createElement("b");
    type.textContent = event.type;
    summary.append(clock(new Date(event.time)), type);
    details.appendChild(document.createElement("pre")).textContent = JSON.stringify(event, null, 2);
    this.#add(row);
  }

  #add(row) {
    this.rows.prepend(row);
    while (this.rows.childElementCount > ROWS) this.rows.lastElementChild.remove();
  }
}

/** A stream that is wanted until it is closed, whatever happens to its connections. */
class Stream {
  constructor(id) {
    this.id = id;
    this.view = new View(id);
    this.connection = null;
    this.wanted = null;
  }

  /** Begin anew for a user; the cursor of this tab, if there is one, says from where. */
  open(token, channels) {
    this.close();
    this.wanted = { token, channels };
    this.key = `matchday.cursor.${this.id}.${subjectOf(token)}`;
    this.seen = new Set();
    this.figures = { events: 0, recovered: 0, repeats: 0, connections: 0 };
    for (const name in this.figures) this.view.figure(name, 0);
    this.cursor = sessionStorage.getItem(this.key);
    this.cursorAt = null;
    this.failures = 0;
    this.#connect();
  }

  close() {
    this.wanted = null;
    clearTimeout(this.timer);
    this.hangUp();
    this.view.state("closed");
  }

  /** The query of both transports; `cursorName` is what this one calls a cursor. */
  query(ticket, cursorName) {
    const query = new URLSearchParams({ ticket });
    if (this.wanted.channels) query.set("channels", this.wanted.channels);
    if (this.cursor) query.set(cursorName, this.cursor);
    return query;
  }

  opened(body) {
    this.failures = 0;
    this.owed = body.recovered ? body.count : 0;
    this.#count("connections");
    this.move(body.cursor);
    this.view.state("open");
    const channels = body.channels.map((name) => name.split(":")[0]).join(", ") || "no channel";
    const back = body.recovered ? `back; ${body.count} missed and recovered` : reasonOf(body.reason);
    this.view.note(`${back} (${channels})`);
    if (body.refused.length) this.view.note(`not yours to read: ${body.refused.join(", ")}`, true);
  }

  event(event) {
    const replayed = this.owed > 0;
    if (replayed) this.owed -= 1;
    this.move(event.cursor);
    if (this.seen.has(event.id)) {
      this.#count("repeats");
      return;
    }
    this.seen.add(event.id);
    this.#count("events");
    if (replayed) this.#count("recovered");
    this.view.event(event, replayed);
  }

  left({ channels }) {
    this.view.note(`no longer yours to read: ${channels.join(", ")}`, true);
  }

  move(cursor) {
    this.cursor = cursor;
    this.cursorAt = Date.now();
    sessionStorage.setItem(this.key, cursor);
  }

  /** The connection ended; come back, unless `code` says that it is of no use. */
  lost(why, code = 0, afterMs = null) {
    this.hangUp();
    if (!this.wanted) return;
    if (code in ENDED) {
      this.wanted = null;
      this.view.state("ended");
      this.view.note(ENDED[code], true);
      return;
    }
    const waitMs = afterMs ?? Math.min(WAIT_MS[1], WAIT_MS[0] * 2 ** this.failures) * (0.5 + Math.random() / 2);
    if (this.failures === 0) this.view.note(why, true);
    this.failures += 1;
    this.view.state("waiting", `again in ${(waitMs / 1000).toFixed(1)} s`);
    this.timer = setTimeout(() => this.#connect(), waitMs);
  }

  tick() {
    const known = this.wanted && this.cursorAt;
    this.view.figure("age", known ? `${Math.floor((Date.now() - this.cursorAt) / 1000)} s` : "–");
  }

  async #connect() {
    const wanted = this.wanted;
    this.view.state("connecting");
    const { status, ticket } = await askTicket(wanted.token);
    if (this.wanted !== wanted) return;
    if (ticket) this.dial(ticket);
    else this.lost("the server does not answer", { 401: 4401, 403: 4403 }[status]);
  }

  #count(name) {
    this.figures[name] += 1;
    this.view.figure(name, this.figures[name]);
  }
}

class WebSocketStream extends Stream {
  dial(ticket) {
    const url = new URL(`ws?${this.query(ticket, "cursor")}`, api);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.connection = socket;
    this.afterMs = null;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (this.connection === socket) this.lost(`connection lost (${code})`, code, this.afterMs);
    };
    this.#listen();
  }

  hangUp() {
    clearTimeout(this.watch);
    const socket = this.connection;
    this.connection = null;
    socket?.close();
  }

  #take(message) {
    this.#listen();
    if (message.op === "event") this.event(message.event);
    else if (message.op === "welcome") this.opened(message);
    else if (message.op === "pong") this.move(message.cursor);
    else if (message.op === "going_away") this.afterMs = message.reconnect_after_ms;
    else if (message.op === "unsubscribed") this.left(message);
    else if (message.op === "error") this.view.note(message.message, true);
  }

  /** Whatever comes shows that the stream lives; after a while without anything, ask. */
  #listen() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => {
      if (this.connection?.readyState === WebSocket.OPEN) this.connection.send('{"op":"ping"}');
      this.watch = setTimeout(() => this.lost("no answer"), ANSWER_MS);
    }, PING_MS);
  }
}

class EventSourceStream extends Stream {
  dial(ticket) {
    // The browser would come back with the same address, and its ticket is good only once.
    const source = new EventSource(new URL(`events?${this.query(ticket, "last_event_id")}`, api));
    this.connection = source;
    source.onerror = () => this.lost("connection lost");
    source.addEventListener("ready", ({ data }) => this.opened(JSON.parse(data)));
    for (const type of EVENT_TYPES) source.addEventListener(type, ({ data }) => this.event(JSON.parse(data)));
    source.addEventListener("cursor", ({ data }) => this.move(JSON.parse(data).cursor));
    source.addEventListener("unsubscribed", ({ data }) => this.left(JSON.parse(data)));
    source.addEventListener("going_away", ({ data }) => {
      const { code, reason, reconnect_after_ms: afterMs } = JSON.parse(data);
      this.lost(`the server ends this stream: ${reason}`, code, afterMs);
    });
  }

  hangUp() {
    this.connection?.close();
    this.connection = null;
  }
}

async function askTicket(token) {
  try {
    const answer = await fetch(new URL("tickets", api), { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    return { status: answer.status, ticket: answer.ok && (await answer.json()).ticket };
  } catch {
    return { status: 0 };
  }
}

function clock(at) {
  const time = document.createElement("time");
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString("en-GB");
  return time;
}

function reasonOf(reason) {
  return reason === "new" ? "open, from now on" : `open; what was missed is not replayed (${reason}): load it through REST`;
}

/** The user of a token, so that a cursor is kept for each; the server is who checks tokens. */
function subjectOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
  } catch {
    return "";
  }
}

const streams = [new WebSocketStream("websocket"), new EventSourceStream("sse")];
const form = document.getElementById("open");
const closing = document.getElementById("close");

form.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const token = document.getElementById("token").value.trim();
  const channels = document.getElementById("channels").value.replaceAll(/\s/g, "");
  for (const stream of streams) stream.open(token, channels);
  closing.disabled = false;
});
closing.addEventListener("click", () => {
  for (const stream of streams) stream.close();
  closing.disabled = true;
});
setInterval(() => streams.forEach((stream) => stream.tick()), 1000);
