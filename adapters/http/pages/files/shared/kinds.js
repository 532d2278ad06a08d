// What samples are: the same names, order and colours everywhere.

/** @typedef {"received" | "recovered" | "restored" | "concealed" | "silence" | "dtx"} Kind */

/** @type {Kind[]} what is worst comes last: it is drawn over the others */
export const KINDS = ["received", "dtx", "restored", "recovered", "concealed", "silence"];

/**
 * Returns the colours of the kinds, as the style sheet has them now.
 *
 * @returns {Record<Kind, string>}
 */
export function kindColours() {
  const style = getComputedStyle(document.documentElement);
  const entries = KINDS.map((kind) => [kind, style.getPropertyValue(`--kind-${kind}`).trim()]);
  return Object.fromEntries(entries);
}
