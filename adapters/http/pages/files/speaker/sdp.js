// What a publisher writes into session descriptions, and reads from them.

/** @typedef {"voice" | "music"} Mode */

/**
 * What an ICE session is known by.
 *
 * @typedef {object} IceSession
 * @property {string} ufrag
 * @property {string} pwd
 * @property {string} mid of the section that describes it
 */

/** What a stereo encoder may take for music, in bit/s. */
const MUSIC_BIT_S = 128_000;

/**
 * Returns a description whose Opus asks for retransmission, forward error correction, and the
 * channels of the mode. The browser's own encoder follows the answer, so both need it.
 *
 * @param {string} sdp
 * @param {Mode} mode
 * @returns {string}
 */
export function withOpus(sdp, mode) {
  const lines = sdp.split(/\r?\n/);
  const opus = lines.flatMap((line) => /^a=rtpmap:(\d+) opus\//i.exec(line)?.[1] ?? []);
  const settings = {
    useinbandfec: 1,
    stereo: mode === "music" ? 1 : 0,
    "sprop-stereo": mode === "music" ? 1 : 0,
    ...(mode === "music" ? { maxaveragebitrate: MUSIC_BIT_S } : {}),
  };
  const has = (/** @type {string} */ start) => lines.some((line) => line.startsWith(start));
  const written = [];
  for (const line of lines) {
    const [, kind, type, own] = /^a=(rtpmap|fmtp):(\d+) (.*)$/.exec(line) ?? [];
    if (!opus.includes(type)) {
      written.push(line);
      continue;
    }
    written.push(kind === "fmtp" ? `a=fmtp:${type} ${merged(own, settings)}` : line);
    if (kind === "fmtp") continue;
    const nack = `a=rtcp-fb:${type} nack`;
    if (!lines.includes(nack) && !lines.includes("a=rtcp-fb:* nack")) written.push(nack);
    if (!has(`a=fmtp:${type} `)) written.push(`a=fmtp:${type} ${merged("", settings)}`);
  }
  return written.join("\r\n");
}

/**
 * Returns parameters of a format with some of them set.
 *
 * @param {string} text `name=value;…`
 * @param {Record<string, string | number>} settings
 */
function merged(text, settings) {
  const pairs = text.split(";").filter(Boolean);
  /** @type {Record<string, string | number>} */
  const own = Object.fromEntries(pairs.map((pair) => pair.trim().split("=")));
  const all = Object.entries({ ...own, ...settings });
  return all.map(([name, value]) => `${name}=${value}`).join(";");
}

/**
 * Returns what the ICE session of an offer is known by.
 *
 * @param {string} sdp
 * @returns {IceSession}
 */
export function iceOf(sdp) {
  const value = (/** @type {string} */ name) =>
    new RegExp(`^a=${name}:(.*)$`, "m").exec(sdp)?.[1].trim() ?? "";
  return { ufrag: value("ice-ufrag"), pwd: value("ice-pwd"), mid: value("mid") || "0" };
}

/**
 * Writes the fragment that adds candidates to an ICE session, or begins it (RFC 8840 § 9).
 *
 * @param {IceSession} ice
 * @param {(string | null)[]} candidates `candidate:…`; null when there are no more
 */
export function fragmentOf({ ufrag, pwd, mid }, candidates) {
  const lines = candidates.map((one) => (one === null ? "a=end-of-candidates" : `a=${one}`));
  return [
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    "m=audio 9 UDP/TLS/RTP/SAVPF 0",
    `a=mid:${mid}`,
    ...lines,
    "",
  ].join("\r\n");
}

/**
 * Returns an answer with the ICE session of a fragment in place of its own.
 *
 * @param {string} answer
 * @param {string} fragment
 */
export function withIceOf(answer, fragment) {
  const given = fragment.split(/\r?\n/);
  const line = (/** @type {string} */ name) => given.find((one) => one.startsWith(`a=${name}:`));
  const candidates = given.filter(
    (one) => one.startsWith("a=candidate:") || one === "a=end-of-candidates",
  );
  const written = [];
  for (const own of answer.split(/\r?\n/)) {
    if (own.startsWith("a=candidate:") || own === "a=end-of-candidates") continue;
    const name = /^a=(ice-ufrag|ice-pwd):/.exec(own)?.[1];
    written.push((name && line(name)) || own);
    if (name === "ice-pwd") written.push(...candidates);
  }
  return written.join("\r\n");
}

/**
 * Reads the STUN and TURN servers of an answer's Link headers (RFC 9725 § 4.6).
 *
 * @param {string | null} header all of them, as `Headers.get` joins them
 * @returns {RTCIceServer[]}
 */
export function iceServersOf(header) {
  const found = [];
  const link = /<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]+))*)/g;
  for (const [, urls, rest] of (header ?? "").matchAll(link)) {
    /** @type {Record<string, string>} */
    const values = {};
    for (const [, name, text] of rest.matchAll(/([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s",;]+)/g))
      values[name] = text.startsWith('"') ? text.slice(1, -1).replace(/\\(.)/g, "$1") : text;
    if (values.rel !== "ice-server") continue;
    found.push({ urls, username: values.username, credential: values.credential });
  }
  return found;
}
