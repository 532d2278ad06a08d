// Signing in: a token once, then a cookie that scripts cannot read.

import { ApiError, ask } from "../shared/api.js";
import { fill, h } from "../shared/dom.js";
import { t } from "../shared/text.js";

/** @typedef {import("api").components["schemas"]["SignedIn"]} SignedIn */

/**
 * Makes the form.
 *
 * @param {string | undefined} why what is said above it
 * @param {(who: SignedIn) => void} done called when somebody has signed in
 */
export function signInForm(why, done) {
  const input = h("input", {
    type: "password",
    name: "token",
    required: true,
    autocomplete: "current-password",
    autocapitalize: "none",
    spellcheck: "false",
    "aria-describedby": "sign-in-help",
  });
  const button = h("button", { class: "primary" }, t("sign_in.submit"));
  const problem = h("div", { role: "alert" }, why && h("p", { class: "notice" }, why));
  const form = h(
    "form",
    { class: "sign-in panel stack", onsubmit: submit },
    h("h1", {}, t("sign_in.title")),
    problem,
    h("label", { class: "field" }, h("span", {}, t("sign_in.token")), input),
    h("p", { class: "soft small", id: "sign-in-help" }, t("sign_in.help")),
    h("div", {}, button),
  );
  return form;

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      const who = await ask("POST", "/api/sign-in", { token: input.value });
      input.value = "";
      form.remove();
      done(who);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      fill(problem, h("p", { class: "notice critical" }, problemText(error)));
      input.select();
    } finally {
      button.disabled = false;
    }
  }
}

/** @param {ApiError} error */
function problemText({ status, message }) {
  if (status === 0) return t("error.network");
  if (status === 401) return t("sign_in.wrong");
  if (status === 403) return t("sign_in.role");
  if (status === 429) return t("sign_in.later");
  return t("error.detail", { detail: message });
}
