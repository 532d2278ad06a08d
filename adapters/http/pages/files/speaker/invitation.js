// What an invitation's link says: its token, and for whom it is. The server alone checks it.

/**
 * @typedef {object} Invitation
 * @property {string | null} token null for a page that is used without one
 * @property {string} name of the guest; empty if the token does not say it
 * @property {string} room
 * @property {number | null} expiresAt seconds since 1970
 * @property {boolean} once whether it opens one session only
 */

const MAX_SHOWN = 200;

/**
 * Reads the fragment of a link, `#token=…`, which browsers send to nobody.
 *
 * @param {string} hash
 * @returns {Invitation}
 */
export function invitationIn(hash) {
  const token = new URLSearchParams(hash.replace(/^#/, "")).get("token") || null;
  const claims = claimsOf(token ?? "");
  const text = (/** @type {unknown} */ value) =>
    typeof value === "string" ? value.replace(/\p{Cc}/gu, " ").slice(0, MAX_SHOWN) : "";
  return {
    token,
    name: text(claims.name),
    room: text(claims.room),
    expiresAt: typeof claims.exp === "number" ? claims.exp : null,
    once: claims.once === true,
  };
}

/**
 * Returns the claims of a JSON Web Token, to be shown only; none if it is another kind of token.
 *
 * @param {string} token
 * @returns {Record<string, unknown>}
 */
function claimsOf(token) {
  const payload = token.split(".")[1] ?? "";
  try {
    const binary = atob(payload.replace(/-/g, "+").replace(/_/g, "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : {};
  } catch {
    return {};
  }
}
