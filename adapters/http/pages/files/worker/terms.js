// What the page, the worker of a spool and the worklet tell each other: types, and nothing else.

/**
 * What goes to a spool: `pcm` has 16-bit samples, of which a frame has one per channel.
 *
 * @typedef {{ frame: number, at: number, pcm: Int16Array<ArrayBuffer> }} Block `frame`: number of
 *   the first frame, in the context's count; `at`: milliseconds (`Date.now`) when the last frame was
 *   rendered
 */

/** @typedef {{ id: string, secret: string }} Session the session whose recording gets the sound */

/**
 * What the header `Gapless-Spool` of an offer says.
 *
 * @typedef {{ position: number, sample_rate_hz: number, channels: number, sample_format: "s16",
 *   restore: "all", started_at: string }} Offer
 */

/**
 * How far a spool is. Nothing in it is more than what is known.
 *
 * @typedef {object} Progress
 * @property {number} capturedS length of the spool, with what was missed
 * @property {number} safeS the server has confirmed all before this
 * @property {number} owedS what was captured and the server has not confirmed
 * @property {"capturing" | "sending" | "complete" | "expired" | "off" | "refused" | "failed"} state
 *   `sending`: nothing is captured any more; `complete`: the server has all of it; `expired`: it has
 *   given up waiting; `off`: it does not restore; `refused`: it does not want it, see `reason`;
 *   `failed`: the browser could not read or keep it
 * @property {string} reason why it was refused or failed, or what the server does not answer; else ""
 * @property {boolean} isReachable whether the server has answered the last request
 * @property {"disk" | "memory"} kept memory: when the page is closed, what is owed is lost
 * @property {"" | "full" | "missing"} ended why no more is kept although the microphone goes on: the
 *   disk (or the limit of what is kept in memory) is full, or too much was missed
 * @property {number | null} leftS how much more can be kept, about; null if it is not known
 */

/**
 * How it has ended.
 *
 * @typedef {object} Finished
 * @property {"complete" | "expired" | "off" | "refused" | "failed"} state as of `Progress`
 * @property {string} reason
 * @property {string} sha256 of the PCM that was captured, with silence for what was missed; "" if
 *   it could not be read
 * @property {number} length samples per channel
 * @property {boolean} isSame whether the recording is the same, bit for bit
 * @property {boolean} isForgotten whether the server knows nothing of the session any more, and has
 *   confirmed none of it: another session may take the sound, see `Spool.renew`
 */

/**
 * A spool that an earlier page has left.
 *
 * @typedef {object} Owed
 * @property {string} id
 * @property {string} name
 * @property {string} room
 * @property {string} startedAt RFC 3339
 * @property {number} seconds
 * @property {number} owedS
 * @property {number} sampleRate
 * @property {number} channels
 * @property {Session | null} session null if the server never had one
 * @property {boolean} isEnded whether the speaker has stopped it
 */

/** @typedef {{ sampleRate: number, channels: number, name: string, room: string }} Description */

export {};
