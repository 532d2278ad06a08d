// Waits for sound that was made before a moment, and that the browser holds back.

/** Firefox holds back 0.2 s on a busy machine. */
const HELD_BACK_S = 0.5;
const LOOK_MS = 10;

/**
 * Resolves when a spool has all the sound until a moment; also when the rest does not come.
 *
 * @param {import("./kept.js").Kept} kept
 * @param {number} untilS by the clock
 */
export async function heard(kept, untilS) {
  const length = kept.lengthAt(untilS);
  const latest = performance.now() + HELD_BACK_S * 1000;
  while (kept.length < length && !kept.ended && performance.now() < latest)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}
