// Draws a QR code: dark on light, also on a dark page, because phones expect that.

import { svg } from "../shared/dom.js";

/** Modules that have to be free on each side (ISO/IEC 18004). */
const QUIET = 4;

/**
 * @param {string[]} rows the modules: a row is a text of 0 and 1
 * @param {string} label
 * @returns {SVGElement}
 */
export function drawQr(rows, label) {
  const side = rows.length + 2 * QUIET;
  return svg(
    "svg",
    { class: "qr", viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label },
    svg("rect", { class: "qr-light", width: side, height: side }),
    svg("path", { class: "qr-dark", d: pathOf(rows), "shape-rendering": "crispEdges" }),
  );
}

/**
 * Returns the path of the dark modules: one rectangle for each run in a row.
 *
 * @param {string[]} rows
 */
export function pathOf(rows) {
  return rows
    .flatMap((row, y) =>
      [...row.matchAll(/1+/g)].map(
        ({ index, 0: run }) => `M${index + QUIET} ${y + QUIET}h${run.length}v1h-${run.length}z`,
      ),
    )
    .join("");
}
