// What may be wrong with the link of an invitation.

/** @typedef {"loopback" | "http" | null} Warning */

/**
 * Returns why a guest may not be able to use a link: `loopback` is the guest's own machine, and
 * over `http` a browser gives no page a microphone.
 *
 * @param {string} url
 * @returns {Warning}
 */
export function warningOf(url) {
  const { protocol, hostname } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  const isLoopback =
    host === "localhost" ||
    host.endsWith(".localhost") ||
    host === "::1" ||
    host === "::ffff:7f00:1" ||
    host === "0.0.0.0" ||
    /^127\.[\d.]+$/.test(host);
  if (isLoopback) return "loopback";
  return protocol === "https:" ? null : "http";
}
