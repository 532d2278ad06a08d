// Publishing as the screens need it: a connection, and sessions for sound that has none yet.

import { Connection } from "./connection.js";
import { Publication, endSession } from "./whip.js";

/** @typedef {import("./whip.js").Published} Published */
/** @typedef {import("./whip.js").Session} Session */

/** @param {Published} published */
export function connectionFor(published) {
  return new Connection((session, signal) => Publication.open(published, session, signal));
}

/**
 * Opens a session for sound that was captured while no server could be reached, and ends it: its
 * recording is then made of what is sent afterwards. Tries until it is open.
 *
 * @param {Omit<Published, "stream">} published
 * @returns {Promise<Session | null>} null if the server refuses
 */
export async function sessionFor(published) {
  const connection = connectionFor({ ...published, stream: null });
  /** @type {Promise<Session>} */
  const opened = new Promise((resolve) => (connection.onsession = resolve));
  const refused = connection.run().then(() => null);
  const session = await Promise.race([opened, refused]);
  if (session) await endSession(session, published.token);
  connection.close();
  await refused;
  return session;
}
