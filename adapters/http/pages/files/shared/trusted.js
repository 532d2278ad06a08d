// The one place where a script's address may come from: this server's own files.

/** @type {any} */
const types = /** @type {any} */ (globalThis).trustedTypes;

const policy = types?.createPolicy("gapless", {
  createScriptURL: (/** @type {string} */ path) => {
    if (new URL(path, location.href).origin !== location.origin || !path.startsWith("/pages/"))
      throw new TypeError(`${path} is no script of this server`);
    return path;
  },
});

/**
 * Returns the address of a script for `new Worker` and `addModule`.
 *
 * @param {string} path
 * @returns {string}
 */
export function scriptUrl(path) {
  return policy ? policy.createScriptURL(path) : path;
}
