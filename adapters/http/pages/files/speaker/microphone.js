// Opening a microphone, and what its refusals mean.

import { Capture } from "./capture.js";

/** @typedef {import("./state.js").State} State */

/** @type {Record<string, State["permission"]>} */
const REASONS = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "none",
  OverconstrainedError: "none",
};

/**
 * Returns why this browser cannot record, before it is asked for a microphone; null if it can.
 *
 * @returns {State["permission"] | null}
 */
export function obstacle() {
  if (!isSecureContext) return "insecure";
  const needed = [
    navigator.mediaDevices,
    globalThis.RTCPeerConnection,
    globalThis.AudioWorkletNode,
  ];
  return needed.every(Boolean) ? null : "unsupported";
}

/** Returns whether the browser opens a microphone without asking. */
export async function isAllowed() {
  try {
    const name = /** @type {PermissionName} */ ("microphone");
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false;
  }
}

/**
 * Opens a microphone; the browser's default one if the one that is meant is not there.
 *
 * @param {string} deviceId
 * @param {import("./sdp.js").Mode} mode
 * @param {import("./opening.js").Shape} [like] as of `Capture.open`
 * @returns {Promise<Capture | State["permission"]>} why there is none, in place of one
 */
export async function openMicrophone(deviceId, mode, like) {
  try {
    return await Capture.open({ deviceId, mode, like });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (deviceId && REASONS[name] === "none") return await openMicrophone("", mode, like);
    console.warn("the microphone cannot be opened:", error);
    return REASONS[name] ?? "busy";
  }
}

/** Returns the microphones, with the names that a page gets when it may use one. */
export async function microphones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const inputs = devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId);
  return inputs.map(({ deviceId, label }) => ({ id: deviceId, label }));
}
