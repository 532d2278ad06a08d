// Zoom and pan on a time axis: wheel, fingers, mouse and keys.

/** Pixels that a pointer moves before it is no click any more. */
const SLACK_PX = 4;
/** A notch of a wheel is 100 pixels in most browsers. */
const ZOOM_PER_PX = 1.003;
const KEY_ZOOM = 1.5;
/** What an arrow key moves, as a share of what is seen. */
const KEY_STEP = 0.02;

/**
 * Lets an element move an axis. What is at its left edge is the beginning of what is seen.
 *
 * @param {HTMLElement} element
 * @param {import("./axis.js").Axis} axis
 * @param {(seconds: number) => void} pick called with the time that was clicked
 */
export function followPointers(element, axis, pick) {
  /** @type {Map<number, number>} where the pointers are, in pixels */
  const pointers = new Map();
  let moved = 0;
  let isPinch = false;
  const width = () => Math.max(1, element.clientWidth);
  const left = () => element.getBoundingClientRect().left;
  const placeOf = (/** @type {number} */ x) => (x - left()) / width();

  element.addEventListener(
    "wheel",
    (event) => {
      const unit = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1;
      const [across, down] = [event.deltaX * unit, event.deltaY * unit];
      if (Math.abs(across) > Math.abs(down) || event.shiftKey) {
        if (axis.isWhole) return;
        axis.pan(((across || down) / width()) * axis.length);
      } else {
        // where all is seen already, the wheel scrolls the page
        if (axis.isWhole && down > 0) return;
        // a pinch on a touchpad comes as a wheel with the control key, in small steps
        const speed = event.ctrlKey ? 4 : 1;
        axis.zoom(ZOOM_PER_PX ** (-down * speed), axis.at(placeOf(event.clientX)));
      }
      event.preventDefault();
    },
    { passive: false },
  );
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (!pointers.size) {
      moved = 0;
      isPinch = false;
    }
    pointers.set(event.pointerId, event.clientX);
    isPinch ||= pointers.size > 1;
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined) return;
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, x]) => x);
    pointers.set(event.pointerId, event.clientX);
    moved += Math.abs(event.clientX - before);
    if (others.length) {
      const [other] = others;
      const fixed = axis.at(placeOf(other));
      const apart = Math.max(10, Math.abs(before - other));
      axis.zoom(Math.max(10, Math.abs(event.clientX - other)) / apart, fixed);
    } else if (moved > SLACK_PX) {
      axis.pan(((before - event.clientX) / width()) * axis.length);
    }
  });
  element.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!isPinch && moved <= SLACK_PX) pick(axis.at(placeOf(event.clientX)));
  });
  element.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
}

/**
 * What keys do on an axis.
 *
 * @typedef {object} Keys
 * @property {() => number} at where the cursor is, in seconds
 * @property {(seconds: number) => void} move sets the cursor
 * @property {() => void} toggle plays or pauses
 */

/**
 * Lets keys move an axis: + and − zoom, arrows move the cursor, with Shift they pan; Home, End,
 * 0 for all, and space to play.
 *
 * @param {HTMLElement} element
 * @param {import("./axis.js").Axis} axis
 * @param {Keys} keys
 */
export function followKeys(element, axis, { at, move, toggle }) {
  const go = (/** @type {number} */ seconds) => {
    const kept = Math.min(axis.total, Math.max(0, seconds));
    move(kept);
    axis.reveal(kept);
  };
  /** @type {Record<string, (event: KeyboardEvent) => void>} */
  const actions = {
    "+": () => axis.zoom(KEY_ZOOM, at()),
    "=": () => axis.zoom(KEY_ZOOM, at()),
    "-": () => axis.zoom(1 / KEY_ZOOM, at()),
    "0": () => axis.whole(),
    "ArrowLeft": (event) => step(event, -1),
    "ArrowRight": (event) => step(event, 1),
    "PageUp": () => axis.pan(-axis.length * 0.9),
    "PageDown": () => axis.pan(axis.length * 0.9),
    "Home": () => go(0),
    "End": () => go(axis.total),
    " ": () => toggle(),
  };
  const step = (/** @type {KeyboardEvent} */ event, /** @type {number} */ direction) => {
    if (event.shiftKey) axis.pan(direction * axis.length * 0.2);
    else go(at() + direction * axis.length * KEY_STEP);
  };
  element.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action(event);
  });
}
