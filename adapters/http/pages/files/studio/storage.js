// How long the disk lasts.

import { ApiError, ask } from "../shared/api.js";
import { h, setText } from "../shared/dom.js";
import { number, size } from "../shared/format.js";
import { t } from "../shared/text.js";

/** How often it is asked for while something is recorded. */
const EVERY_MS = 15_000;
/** Below it, the time is shown as a warning: it is what the server's alarm begins with, too. */
const SHORT_S = 8 * 3600;

/** Shows the disk as time, or as bytes as long as no time is known. */
export class StorageView {
  /** @param {import("./events.js").Events} events */
  constructor(events) {
    this.element = h("span", { class: "storage small figures", hidden: true });
    this.askedAt = performance.now();
    events.on("levels", () => {
      if (performance.now() - this.askedAt > EVERY_MS) void this.load();
    });
    for (const type of ["anew", "recording.completed", "recording.deleted"])
      events.on(type, () => void this.load());
  }

  async load() {
    this.askedAt = performance.now();
    let disk;
    try {
      disk = await ask("GET", "/api/storage");
    } catch (error) {
      if (error instanceof ApiError) return; // it is shown elsewhere that the server is away
      throw error;
    }
    this.element.hidden = disk.free_bytes === null;
    if (disk.free_bytes === null) return;
    const isShort = disk.left_s !== null && disk.left_s < SHORT_S;
    this.element.classList.toggle("short", isShort);
    setText(
      this.element,
      disk.left_s === null
        ? t("storage.free", { free: size(disk.free_bytes) })
        : t("storage.left", { time: span(disk.left_s) }),
    );
    this.element.title = t("storage.free", { free: size(disk.free_bytes) });
  }
}

const UNITS = /** @type {const} */ ([
  ["year", 365 * 86_400],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
]);

/**
 * Writes a time in the unit of which there are two or more; it promises no more than there is.
 *
 * @param {number} seconds
 */
export function span(seconds) {
  const [unit, length] = UNITS.find(([, one]) => seconds >= 2 * one) ?? UNITS[3];
  return number(Math.floor(seconds / length), { style: "unit", unit, unitDisplay: "long" });
}
