// Invitations: a link and its QR code for a guest; and the tokens that there are.

import { ApiError, ask } from "../shared/api.js";
import { fill, h, setText } from "../shared/dom.js";
import { dateTime } from "../shared/format.js";
import { t } from "../shared/text.js";
import { warningOf } from "./links.js";
import { drawQr } from "./qr.js";
import { reason, trouble } from "./words.js";

/** @typedef {import("api").components["schemas"]["Token"]} Token */
/** @typedef {import("api").components["schemas"]["Invitation"]} Invitation */

/** @type {[number, () => string][]} seconds, and how that is called */
const EXPIRIES = [
  [3600, () => t("invite.hour")],
  [86_400, () => t("invite.day")],
  [7 * 86_400, () => t("invite.week")],
  [30 * 86_400, () => t("invite.month")],
];
const USUAL_S = 7 * 86_400;

/** @type {import("./main.js").View} */
export async function open(root, { role, query }) {
  if (role !== "admin") {
    fill(
      root,
      h("h1", {}, t("nav.invite")),
      h("p", { class: "notice", role: "status" }, t("invite.watcher")),
    );
    return () => {};
  }
  const stop = new AbortController();
  const name = h("input", { name: "name", maxlength: 200, autocomplete: "off", dir: "auto" });
  const room = h("input", {
    name: "room",
    maxlength: 200,
    autocomplete: "off",
    dir: "auto",
    value: query.get("room") ?? "",
  });
  const expiry = h(
    "select",
    { name: "expiry" },
    EXPIRIES.map(([seconds, called]) => h("option", { value: seconds }, called())),
  );
  expiry.value = String(USUAL_S);
  const once = h("input", { type: "checkbox", name: "once" });
  const make = h("button", { class: "primary" }, t("invite.make"));
  const problem = h("div", { class: "slot" });
  const made = h("div", { "aria-live": "polite" });
  const tokens = new TokenList(stop.signal);

  async function invite(/** @type {Event} */ event) {
    event.preventDefault();
    make.disabled = true;
    fill(problem);
    /** @type {Record<string, unknown>} */
    const body = { expires_s: Number(expiry.value), once: once.checked };
    if (name.value.trim()) body.name = name.value.trim();
    if (room.value.trim()) body.room = room.value.trim();
    try {
      const invitation = await ask("POST", "/api/invitations", body, { signal: stop.signal });
      fill(made, card(invitation, name.value.trim()));
      made.querySelector("input")?.focus();
      await tokens.load();
    } catch (error) {
      if (!stop.signal.aborted) fill(problem, trouble(error));
    } finally {
      make.disabled = false;
    }
  }

  const field = (/** @type {string} */ label, /** @type {HTMLElement} */ input) =>
    h("label", { class: "field" }, h("span", {}, label), input);
  fill(
    root,
    h("h1", {}, t("nav.invite")),
    h(
      "div",
      { class: "invite" },
      h(
        "form",
        { class: "panel stack", onSubmit: invite },
        field(t("invite.name"), name),
        field(t("invite.room"), room),
        field(t("invite.expiry"), expiry),
        h("label", { class: "check" }, once, h("span", {}, t("invite.once"))),
        h("div", {}, make),
        problem,
      ),
      made,
    ),
    tokens.element,
  );
  await tokens.load();
  return () => stop.abort();
}

/**
 * Returns an invitation as one passes it on.
 *
 * @param {Invitation} invitation
 * @param {string} name of the guest
 */
function card({ url, expires, qr }, name) {
  const link = h("input", {
    class: "link",
    readonly: true,
    value: url,
    "aria-label": t("invite.link"),
    dir: "ltr",
    onFocus: () => {
      link.select();
      link.scrollLeft = 0;
    },
  });
  const copied = h("span", { class: "small soft", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(url);
      setText(copied, t("action.copied"));
    } catch {
      // a page over http, or a browser that was told not to, has no clipboard
      link.focus();
      link.select();
      setText(copied, t("invite.selected"));
    }
  };
  const warning = warningOf(url);
  return h(
    "section",
    { class: "panel stack invitation", "aria-label": t("invite.made") },
    h("h2", {}, name ? [t("invite.for"), " ", h("bdi", {}, name)] : t("invite.made")),
    qr && drawQr(qr, t("invite.qr")),
    h(
      "div",
      { class: "link-row" },
      link,
      h("button", { type: "button", onClick: copy }, t("action.copy")),
    ),
    copied,
    h("p", { class: "small soft" }, t("invite.until", { time: dateTime(expires) })),
    warning &&
      h(
        "p",
        { class: "notice warning" },
        warning === "loopback" ? t("invite.loopback") : t("invite.http"),
      ),
  );
}

/** The tokens that there are, the newest first, with a page more on demand. */
class TokenList {
  /** @param {AbortSignal} signal */
  constructor(signal) {
    this.signal = signal;
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {string | null} */
    this.next = null;
    this.problem = h("div", { class: "slot" });
    this.list = h("ul", { class: "token-list" });
    this.empty = h("p", { class: "soft", hidden: true }, t("tokens.empty"));
    this.more = h(
      "button",
      { type: "button", hidden: true, onClick: () => this.#more() },
      t("tokens.more"),
    );
    this.element = h(
      "section",
      { class: "stack", "aria-labelledby": "tokens-title" },
      h("h2", { id: "tokens-title" }, t("tokens.title")),
      this.problem,
      this.empty,
      this.list,
      h("div", {}, this.more),
    );
  }

  async load() {
    this.tokens = [];
    await this.#page(null);
  }

  #more() {
    void this.#page(this.next);
  }

  /** @param {string | null} before */
  async #page(before) {
    const query = before ? `?before=${encodeURIComponent(before)}` : "";
    try {
      const page = await ask("GET", `/api/tokens${query}`, undefined, { signal: this.signal });
      this.tokens = [...this.tokens, ...page.tokens];
      this.next = page.next;
      fill(this.problem);
      this.#show();
    } catch (error) {
      if (this.signal.aborted) return;
      if (error instanceof ApiError && error.status === 404) this.element.hidden = true;
      else
        fill(
          this.problem,
          trouble(error, () => void this.load()),
        );
    }
  }

  #show() {
    this.empty.hidden = this.tokens.length > 0;
    this.list.hidden = !this.tokens.length;
    this.more.hidden = this.next === null;
    fill(
      this.list,
      this.tokens.map((token) => this.#row(token)),
    );
  }

  /** @param {Token} token */
  #row(token) {
    const state = stateOf(token);
    const revoke = async (/** @type {Event} */ event) => {
      const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
      button.disabled = true;
      try {
        const path = `/api/tokens/${encodeURIComponent(token.id)}`;
        await ask("DELETE", path, undefined, { signal: this.signal });
        await this.load();
      } catch (error) {
        button.disabled = false;
        if (!this.signal.aborted)
          fill(this.problem, h("p", { class: "notice critical", role: "alert" }, reason(error)));
      }
    };
    const called = token.sub || token.name || token.id;
    return h(
      "li",
      {},
      h("b", { class: "token-name", title: token.id }, h("bdi", {}, called)),
      h("span", { class: "soft small" }, token.role ? roleOf(token) : t("tokens.foreign")),
      h(
        "span",
        { class: "soft small" },
        token.room ? [t("list.room"), ": ", h("bdi", {}, token.room)] : "",
      ),
      h("span", { class: `mark ${state === "valid" ? "good" : "quiet"}` }, STATES[state](token)),
      state === "valid"
        ? h(
            "button",
            {
              type: "button",
              class: "danger",
              "aria-label": t("tokens.revokeOf", { name: called }),
              onClick: revoke,
            },
            t("tokens.revoke"),
          )
        : h("span"),
    );
  }
}

/** @param {Token} token */
function roleOf(token) {
  const role = String(token.role);
  if (role === "publish") return token.once ? t("role.once") : t("role.publish");
  if (role === "watch") return t("role.watch");
  return role === "admin" ? t("role.admin") : role;
}

/** @type {Record<"valid" | "revoked" | "used" | "expired", (token: Token) => string>} */
const STATES = {
  valid: ({ expires }) =>
    expires ? t("tokens.until", { time: dateTime(expires) }) : t("tokens.valid"),
  revoked: () => t("tokens.revoked"),
  used: () => t("tokens.used"),
  expired: () => t("tokens.expired"),
};

/** @param {Token} token */
function stateOf({ revoked, once, used, expires }) {
  if (revoked) return "revoked";
  if (once && used) return "used";
  return expires && Date.parse(expires) <= Date.now() ? "expired" : "valid";
}
