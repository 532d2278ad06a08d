// After a recording: what the server does not have yet is sent, or all is there, or it was refused.

import { fill, h, setText } from "../shared/dom.js";
import { dateTime, duration } from "../shared/format.js";
import { t } from "../shared/text.js";
import { clock, mark, nameOf, notice } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Actions} Actions */
/** @typedef {import("./state.js").Debt} Debt */

/** While the rest is sent. */
export function finishingScreen() {
  const title = h("h1", { tabindex: -1 }, t("finishing.title"));
  const bar = h("progress", { "aria-labelledby": "finishing-about" });
  const about = h("p", { id: "finishing-about", class: "figures" });
  const connection = h("p", { class: "small soft", role: "status" });
  return {
    element: h(
      "div",
      { class: "stack" },
      title,
      h("section", { class: "panel stack" }, bar, about, connection),
      h("p", {}, t("finishing.keep")),
    ),
    /** @param {State} state */
    update({ elapsedS, owedS, connection: { state } }) {
      bar.max = Math.max(elapsedS, 1);
      bar.value = Math.max(0, elapsedS - owedS);
      setText(about, t("finishing.about", { owed: duration(owedS), all: duration(elapsedS) }));
      const isAway = state === "waiting" || state === "offline";
      setText(connection, isAway ? t("finishing.away") : "");
    },
  };
}

/**
 * When it is over.
 *
 * @param {Actions} actions
 */
export function finishedScreen(actions) {
  const title = h("h1", { tabindex: -1 });
  const word = h("span", {});
  const about = h("p", {});
  const detail = h("p", { class: "small soft" });
  const figures = h("dl", { class: "figures" });
  const retry = h(
    "button",
    { class: "primary", type: "button", onclick: actions.retry },
    t("finished.retry"),
  );
  const save = h("button", { type: "button", onclick: actions.save }, t("finished.save"));
  const again = h("button", { type: "button", onclick: actions.again }, t("finished.again"));
  return {
    element: h(
      "div",
      { class: "stack" },
      title,
      h("section", { class: "panel stack", role: "status" }, h("p", {}, word), about, detail),
      h(
        "details",
        {},
        h("summary", {}, t("finished.figures")),
        h("section", { class: "panel" }, figures),
      ),
      h("div", { class: "row" }, retry, save, again),
    ),
    /** @param {State} state */
    update({ outcome }) {
      if (!outcome) return;
      const { state, seconds, sha256 } = outcome;
      setText(title, t(`finished.${state}`));
      const tone = state === "lost" ? "critical" : state === "owed" ? "warning" : "good";
      mark(word, tone, t(`finished.${state}.word`));
      setText(about, t(`finished.${state}.about`));
      setText(detail, outcome.detail ? t("error.detail", { detail: outcome.detail }) : "");
      detail.hidden = !outcome.detail;
      retry.hidden = state !== "owed";
      save.hidden = state !== "owed";
      fill(
        figures,
        h("dt", {}, t("finished.length")),
        h("dd", {}, clock(seconds)),
        sha256 && [h("dt", {}, "SHA-256"), h("dd", { class: "hash" }, sha256)],
      );
    },
  };
}

/**
 * When the server lets nobody in with this link.
 *
 * @param {Actions} actions
 */
export function refusedScreen(actions) {
  const title = h("h1", { tabindex: -1 }, t("refused.title"));
  const trouble = notice(true);
  const detail = h("p", { class: "small soft" });
  const retry = h("button", { type: "button", onclick: actions.again }, t("action.retry"));
  return {
    element: h(
      "div",
      { class: "stack" },
      title,
      trouble.element,
      detail,
      h("div", { class: "row" }, retry),
    ),
    /** @param {State} state */
    update({ refusal: { status, detail: words }, guest }) {
      const key = [401, 403, 404].includes(status) ? String(status) : "other";
      const isLink = status === 401 && guest.isInvited;
      trouble.show(
        "critical",
        t(`refused.${isLink ? "link" : key}`),
        t(`refused.${isLink ? "link" : key}.what`),
      );
      setText(detail, words ? t("error.detail", { detail: words }) : "");
    },
  };
}

/**
 * What earlier pages owe. It is shown above every screen but that of a recording.
 *
 * @param {Actions} actions
 */
export function debtList(actions) {
  const list = h("ul", { class: "stack tight" });
  const element = h(
    "section",
    { class: "stack tight", "aria-label": t("debts.label") },
    h("h2", {}, t("debts.title")),
    list,
  );
  let shown = "";
  return {
    element,
    /** @param {State} state */
    update({ screen, debts }) {
      element.hidden = !debts.length || screen === "recording" || screen === "finishing";
      const wanted = JSON.stringify(debts.map(({ owedS: _, ...rest }) => rest));
      if (wanted !== shown) {
        shown = wanted;
        fill(
          list,
          debts.map((debt) => debtItem(debt, actions)),
        );
      }
      for (const [index, debt] of debts.entries()) {
        const item = list.children[index];
        setText(/** @type {Element} */ (item.querySelector(".owed")), debtText(debt));
        const bar = item.querySelector("progress");
        if (bar) bar.value = Math.max(0, debt.seconds - debt.owedS);
      }
    },
  };
}

/** @param {Debt} debt */
function debtText({ state, owedS, detail }) {
  const owed = duration(owedS);
  if (state === "refused" && detail) return t("debts.refused.why", { owed, detail });
  return t(`debts.${state}`, { owed });
}

/**
 * @param {Debt} debt
 * @param {Actions} actions
 */
function debtItem({ id, name, startedAt, seconds, state, isAlive }, actions) {
  const when = startedAt ? dateTime(startedAt) : "";
  const saving = h("button", { type: "button", onclick: () => actions.saveDebt(id) });
  setText(saving, t("finished.save"));
  const discarding = h("button", {
    class: "danger",
    type: "button",
    onclick: () => actions.discard(id),
  });
  setText(discarding, t("debts.discard"));
  return h(
    "li",
    { class: "notice stack tight" },
    h("p", {}, h("strong", {}, name ? nameOf(name) : t("debts.nameless")), " ", when),
    h("p", { class: "owed figures" }),
    state === "sending" && h("progress", { max: Math.max(seconds, 1), "aria-hidden": true }),
    isAlive &&
      h(
        "button",
        { class: "record", type: "button", onclick: () => actions.goOn(id) },
        t("debts.continue"),
      ),
    (state === "refused" || state === "elsewhere") &&
      h("div", { class: "row" }, saving, discarding),
  );
}
