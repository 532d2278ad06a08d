// Shows a state of the speaker's page, and nothing else: the same state looks the same.

import { fill } from "../shared/dom.js";
import { debtList, finishedScreen, finishingScreen, refusedScreen } from "./ended.js";
import { openingScreen, readyScreen } from "./ready.js";
import { runningScreen } from "./running.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Actions} Actions */
/** @typedef {{ element: HTMLElement, update: (state: State) => void }} Screen */

/** @type {Record<State["screen"], (actions: Actions) => Screen>} */
const SCREENS = {
  opening: openingScreen,
  ready: readyScreen,
  recording: runningScreen,
  finishing: finishingScreen,
  finished: finishedScreen,
  refused: refusedScreen,
};

/**
 * Returns the function that shows states in an element of the page. A screen is made when it is
 * entered; after that only what has changed is set, so focus and reading are not disturbed.
 *
 * @param {HTMLElement} root
 * @param {Actions} actions
 * @returns {(state: State) => void}
 */
export function viewIn(root, actions) {
  const debts = debtList(actions);
  /** @type {State["screen"] | null} */
  let shown = null;
  /** @type {Screen | null} */
  let screen = null;
  return (state) => {
    if (state.screen !== shown) {
      const isFirst = shown === null;
      shown = state.screen;
      screen = SCREENS[state.screen](actions);
      fill(root, debts.element, screen.element);
      screen.update(state);
      // who reads by ear or by keyboard is led to what is new
      if (!isFirst) screen.element.querySelector("h1")?.focus();
    } else screen?.update(state);
    debts.update(state);
  };
}
