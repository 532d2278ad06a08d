import { fill, h } from "../shared/dom.js";
import { t } from "../shared/text.js";

/** @type {import("./main.js").View} */
export function open(root) {
  fill(root, h("h1", {}, t("nav.rooms")));
  return () => {};
}
