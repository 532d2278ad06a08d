// Makes elements. Text is always text: nothing here, or anywhere in the pages, parses markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [settings] attributes; `class`; `onNAME`: listeners; `dataset`;
 *   what is null or false is left out, and true makes an attribute without a value
 * @param {...(Child | Child[])} children text or nodes; what is null or false is left out
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  set(element, settings);
  element.append(...nodes(children));
  return element;
}

/**
 * Makes an element of SVG.
 *
 * @param {string} tag
 * @param {Record<string, any>} [settings] as of `h`
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, settings = {}, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  set(element, settings);
  element.append(...nodes(children));
  return element;
}

/**
 * Replaces what an element has.
 *
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * Changes the text of an element, if it is another one: screen readers repeat what is set again.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Finds the element that a page has for sure.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

/**
 * @param {Element} element
 * @param {Record<string, any>} settings
 */
function set(element, settings) {
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "dataset") Object.assign(/** @type {HTMLElement} */ (element).dataset, value);
    // properties, where the attribute is only what they begin with
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden")
      /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  const kept = children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false);
  return kept.map((child) => (child instanceof Node ? child : String(child)));
}
