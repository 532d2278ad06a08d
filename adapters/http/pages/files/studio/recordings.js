// What was recorded: a list to search, and one recording of it (`#recordings?id=…`).

import { fill, h, setText } from "../shared/dom.js";
import { dateTime, duration, number, size } from "../shared/format.js";
import { t } from "../shared/text.js";
import { deletions, isLeaving } from "./deleting.js";
import { VirtualList } from "./list.js";
import { openRecording } from "./recording.js";
import { listen } from "./recording-events.js";
import { MAX_KEPT, Source } from "./source.js";
import { nameOf, stateMark, trouble } from "./words.js";

/** @typedef {import("api").components["schemas"]["Recording"]} Recording */
/** @typedef {import("./source.js").Wanted} Wanted */

/** Rows that are loaded before they are seen. */
const AHEAD = 200;
/** @type {Wanted["sort"][]} */
const SORTS = ["newest", "oldest", "longest", "largest", "name"];
/** @type {Wanted["state"][]} */
const STATES = ["", "live", "complete"];

/** Where one was in the list, when one looked at a recording. */
let last = { query: "", top: 0, count: AHEAD };

/** @type {import("./main.js").View} */
export function open(root, context) {
  const id = context.query.get("id");
  return id ? openRecording(root, { ...context, id }) : openList(root, context);
}

/**
 * @param {HTMLElement} root
 * @param {import("./main.js").Context} context
 */
function openList(root, { query, events, sessions }) {
  const wanted = wantedIn(query);
  const returned = last.query === queryOf(wanted) ? last : null;
  let shown = 0;
  let isReady = false;

  const count = h("p", { class: "soft small", role: "status" });
  const problem = h("div", { class: "slot" });
  const empty = h("p", { class: "panel soft", hidden: true });
  const list = new VirtualList({
    make: makeRow,
    show: (row, /** @type {Recording} */ recording) => showRow(row, recording, sessions),
    keyOf: (recording) => recording.id,
    near: (index) => {
      if (isReady && source.hasMore && index + AHEAD > shown) void source.load(shown + AHEAD);
    },
  });
  const table = h(
    "div",
    { class: "list", role: "table", "aria-label": t("nav.recordings"), hidden: true },
    h(
      "div",
      { class: "list-row list-head", role: "row", "aria-rowindex": 1 },
      ["name", "room", "started", "length", "size", "state"].map((column) =>
        h("span", { role: "columnheader", class: `list-${column}` }, COLUMNS[column]()),
      ),
    ),
    list.element,
  );
  const rooms = h("datalist", { id: "rooms-known" });
  let source = new Source(wanted, show);

  function show() {
    const items = source.items.filter((one) => !isLeaving(one.id));
    shown = source.live.length + source.complete.length;
    const isSorting = source.needsAll && source.hasMore && !source.isFull;
    // a list that is sorted while it comes would jump
    list.set(isSorting && !source.error ? [] : items);
    table.hidden = !list.items.length;
    table.setAttribute("aria-rowcount", String(source.hasMore ? -1 : items.length + 1));
    const values = { count: items.length, shown: number(items.length) };
    if (isSorting && source.isAsking) setText(count, t("list.sorting", values));
    else if (source.isFull) setText(count, t("list.full", { shown: number(MAX_KEPT) }));
    else if (source.hasMore) setText(count, t("list.more", values));
    else setText(count, items.length ? t("list.count", values) : "");
    const isEmpty = !items.length && !source.hasMore;
    empty.hidden = !isEmpty;
    const { name, room, state } = source.wanted;
    if (isEmpty) setText(empty, name || room || state ? t("list.none") : t("list.empty"));
    fill(
      problem,
      source.error ? trouble(source.error, () => void source.load(shown + AHEAD)) : null,
    );
    const known = new Set(items.map((one) => one.room).filter(Boolean));
    if (known.size !== rooms.childElementCount)
      fill(
        rooms,
        [...known].map((one) => h("option", { value: one })),
      );
  }

  async function restart(/** @type {Wanted} */ next, least = AHEAD) {
    source.close();
    source = new Source(next, show);
    show();
    await source.load(least);
  }

  function search() {
    const next = {
      ...source.wanted,
      name: nameField.value.trim(),
      room: roomField.value.trim(),
      state: /** @type {Wanted["state"]} */ (stateField.value),
      sort: /** @type {Wanted["sort"]} */ (sortField.value),
    };
    const text = queryOf(next);
    if (text === queryOf(source.wanted)) return;
    history.replaceState(null, "", `#recordings${text && `?${text}`}`);
    void restart(next);
  }

  const field = { onInput: search, maxlength: 200, autocomplete: "off" };
  const nameField = h("input", { type: "search", value: wanted.name, ...field });
  const roomField = h("input", {
    type: "search",
    value: wanted.room,
    list: "rooms-known",
    ...field,
  });
  const stateField = select(STATES, wanted.state, (state) => STATE_NAMES[state || "all"](), search);
  const sortField = select(SORTS, wanted.sort, (sort) => SORT_NAMES[sort](), search);
  fill(
    root,
    h("div", { class: "row spread" }, h("h1", {}, t("nav.recordings")), count),
    h(
      "form",
      {
        class: "filters",
        role: "search",
        onSubmit: (/** @type {Event} */ e) => e.preventDefault(),
      },
      labelled(t("list.name"), nameField),
      labelled(t("list.room"), roomField),
      labelled(t("list.state"), stateField),
      labelled(t("list.sort"), sortField),
      rooms,
    ),
    problem,
    empty,
    table,
  );

  const redo = () => void restart(source.wanted, Math.max(AHEAD, shown));
  const stopListening = listen(events, {
    changed: (recording) => source.put(recording),
    removed: (gone) => source.remove(gone),
    missed: redo,
    idsOf: (session) => source.items.filter((one) => one.session === session).map((one) => one.id),
  });
  const hushSessions = sessions.onChange(() => {
    if (source.live.length) show();
  });
  deletions.addEventListener("change", show);
  void source.load(returned?.count ?? AHEAD).then(() => {
    isReady = true;
    if (returned) scrollTo(0, returned.top);
    list.redraw();
  });
  return () => {
    last = { query: queryOf(source.wanted), top: scrollY, count: shown };
    deletions.removeEventListener("change", show);
    stopListening();
    hushSessions();
    list.close();
    source.close();
  };
}

/** @returns {HTMLElement} */
function makeRow() {
  const cell = (/** @type {string} */ column, /** @type {Node} */ content) =>
    h("span", { role: "cell", class: `list-${column}` }, content);
  return h(
    "div",
    { class: "list-row", role: "row" },
    cell("name", h("a", {}, h("bdi", {}))),
    cell("room", h("bdi", {})),
    cell("started", h("time", {})),
    h("span", { role: "cell", class: "list-length figures" }),
    h("span", { role: "cell", class: "list-size figures" }),
    h("span", { role: "cell", class: "list-state" }),
  );
}

/**
 * @param {HTMLElement} row
 * @param {Recording} recording
 * @param {import("./sessions.js").Sessions} sessions
 */
function showRow(row, recording, sessions) {
  const [name, room, started, length, bytes, state] = row.children;
  const link = /** @type {HTMLAnchorElement} */ (name.firstElementChild);
  link.href = `#recordings?id=${encodeURIComponent(recording.id)}`;
  link.title = recording.name;
  setText(/** @type {Element} */ (link.firstElementChild), nameOf(recording));
  setText(/** @type {Element} */ (room.firstElementChild), recording.room ?? "");
  setText(/** @type {Element} */ (started.firstElementChild), dateTime(recording.started_at));
  const isLive = recording.state === "live";
  setText(length, isLive ? "" : duration(recording.seconds));
  setText(bytes, isLive ? "" : size(recording.size_bytes));
  const mark = isLive ? stateMark(sessions.byId.get(recording.session)?.state) : null;
  if (state.textContent !== (mark?.textContent ?? "")) fill(state, mark);
}

/** @type {Record<string, () => string>} */
const COLUMNS = {
  name: () => t("list.name"),
  room: () => t("list.room"),
  started: () => t("list.started"),
  length: () => t("list.length"),
  size: () => t("list.size"),
  state: () => t("list.state"),
};
/** @type {Record<string, () => string>} */
const STATE_NAMES = {
  all: () => t("state.all"),
  live: () => t("state.live"),
  complete: () => t("state.complete"),
};
/** @type {Record<string, () => string>} */
const SORT_NAMES = {
  newest: () => t("sort.newest"),
  oldest: () => t("sort.oldest"),
  longest: () => t("sort.longest"),
  largest: () => t("sort.largest"),
  name: () => t("sort.name"),
};

/**
 * @param {string} text
 * @param {HTMLElement} field
 */
function labelled(text, field) {
  return h("label", { class: "field" }, h("span", {}, text), field);
}

/**
 * @param {string[]} options
 * @param {string} chosen
 * @param {(option: string) => string} nameOf
 * @param {() => void} changed
 */
function select(options, chosen, nameOf, changed) {
  const made = h(
    "select",
    { onChange: changed },
    options.map((value) => h("option", { value }, nameOf(value))),
  );
  made.value = chosen;
  return made;
}

/**
 * @param {URLSearchParams} query
 * @returns {Wanted}
 */
function wantedIn(query) {
  const state = /** @type {Wanted["state"]} */ (query.get("state") ?? "");
  const sort = /** @type {Wanted["sort"]} */ (query.get("sort") ?? "newest");
  return {
    name: (query.get("name") ?? "").slice(0, 200),
    room: (query.get("room") ?? "").slice(0, 200),
    state: STATES.includes(state) ? state : "",
    sort: SORTS.includes(sort) ? sort : "newest",
  };
}

/** @param {Wanted} wanted */
function queryOf({ name, room, state, sort }) {
  const query = new URLSearchParams();
  if (name) query.set("name", name);
  if (room) query.set("room", room);
  if (state) query.set("state", state);
  if (sort !== "newest") query.set("sort", sort);
  return query.toString();
}
