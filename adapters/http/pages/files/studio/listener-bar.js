// Shows what is listened to, wherever on the page its session is.

import { h, setText } from "../shared/dom.js";
import { duration, number } from "../shared/format.js";
import { t } from "../shared/text.js";

/** A line at the foot of the page, as long as somebody listens. */
export class ListenerBar {
  /** @param {import("./listener.js").Listener} listener */
  constructor(listener) {
    this.listener = listener;
    this.shown = "";
    this.what = h("p", { class: "what" });
    this.state = h("span", { class: "small soft figures" });
    this.time = h("span", { class: "figures heard" });
    this.again = h("button", { hidden: true, onclick: () => listener.resume() }, t("listen.allow"));
    const volume = h("input", {
      type: "range",
      class: "volume",
      "aria-label": t("listen.volume"),
      min: 0,
      max: 1,
      step: 0.05,
      value: listener.volume,
      oninput: () => listener.setVolume(Number(volume.value)),
    });
    this.element = h(
      "section",
      { class: "listening row", "aria-label": t("listen.label"), hidden: true },
      h("div", {}, this.what, this.state),
      this.time,
      this.again,
      volume,
      h("button", { onclick: () => listener.stop() }, t("listen.stop")),
    );
    listener.onChange(() => this.#show());
  }

  #show() {
    const { source, name, state, told } = this.listener;
    this.element.hidden = !source;
    if (!source) return;
    if (name !== this.shown) {
      this.shown = name;
      this.what.replaceChildren(t("listen.to"), " ", h("bdi", { title: name }, name));
    }
    this.again.hidden = state !== "blocked";
    setText(this.time, duration(told.played_s));
    const parts = [
      state === "playing"
        ? t("listen.state.playing", { behind: seconds(told.queued_s) })
        : t(`listen.state.${state}`),
    ];
    if (told.dry) parts.push(t("listen.dry", { count: told.dry }));
    const lacking = told.missed_s + told.skipped_s;
    if (lacking >= 0.05) parts.push(t("listen.lacking", { time: seconds(lacking) }));
    setText(this.state, parts.join(" · "));
  }
}

/** @param {number} value */
function seconds(value) {
  return `${number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} s`;
}
