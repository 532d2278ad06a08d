// All text that people read comes from ../text/, in their language.

/** @typedef {Record<string, string>} Texts */

const LANGUAGES = ["en", "de"];

/** @type {Texts} */
let texts = {};

/** The language of the page with its region (BCP 47): the first of the browser's with texts. */
export const locale = chosen();
const language = locale.toLowerCase().split("-")[0];

/**
 * Loads the texts of a page; call it before `t`.
 *
 * @param {string[]} names which files: NAME.LANGUAGE.js
 */
export async function loadTexts(...names) {
  for (const name of names) {
    const module = await import(`../text/${name}.${language}.js`);
    texts = { ...texts, ...module.default };
  }
  document.documentElement.lang = language;
}

/**
 * Returns a text. `{name}` in it is replaced by a value. A text of a number has forms: with the
 * value `count`, `KEY.one` or `KEY.other` is taken, as the language wants it.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  let text = texts[key];
  if (typeof values.count === "number")
    text =
      texts[`${key}.${new Intl.PluralRules(language).select(values.count)}`] ??
      texts[`${key}.other`] ??
      text;
  if (text === undefined) throw new Error(`there is no text ${key}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * Returns whether there is a text: servers may name something that the pages do not know yet.
 *
 * @param {string} key
 */
export function hasText(key) {
  return key in texts;
}

function chosen() {
  for (const wanted of navigator.languages) {
    if (LANGUAGES.includes(wanted.toLowerCase().split("-")[0])) return wanted;
  }
  return LANGUAGES[0];
}
