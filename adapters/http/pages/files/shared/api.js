// What the pages ask of their server.

/** @typedef {import("api").components["schemas"]} Schemas what the API answers, by name */

/** A refusal of the server, or of the network. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP; 0 if no answer came
   * @param {string} detail what is wrong, in the server's words
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * Sends a request and returns its answer, which is not read yet. A browser that has signed in sends
 * its cookie by itself.
 *
 * @param {string} method
 * @param {string} path
 * @param {{ token?: string, headers?: Record<string, string>, body?: BodyInit,
 *   signal?: AbortSignal, keepalive?: boolean }} [options] `token`: a bearer token
 * @returns {Promise<Response>}
 * @throws {ApiError} unless the status is 2xx
 */
export async function send(method, path, { token, headers = {}, body, signal, keepalive } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      signal,
      keepalive,
      headers: token ? { Authorization: `Bearer ${token}`, ...headers } : headers,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, String(error));
  }
  if (!response.ok) throw new ApiError(response.status, await detailOf(response));
  return response;
}

/**
 * Sends JSON, if there is some, and returns the JSON of the answer; null if it has none.
 *
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {{ token?: string, headers?: Record<string, string>, signal?: AbortSignal,
 *   keepalive?: boolean }} [options]
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function ask(method, path, body, options = {}) {
  /** @type {Record<string, string>} */
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await send(method, path, {
    ...options,
    headers: { ...headers, ...options.headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** @param {Response} response */
async function detailOf(response) {
  try {
    const body = await response.json();
    return String(body.detail ?? body.error ?? response.status);
  } catch {
    return String(response.status);
  }
}
