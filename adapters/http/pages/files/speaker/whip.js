// Publishes a stream by WHIP (RFC 9725): one peer connection, from its offer to its end.

import { ApiError, send } from "../shared/api.js";
import { fragmentOf, iceOf, iceServersOf, withIceOf, withOpus } from "./sdp.js";

/** @typedef {import("./sdp.js").Mode} Mode */

/**
 * A session at the server, and the secret that opens it.
 *
 * @typedef {object} Session
 * @property {string} id
 * @property {string} secret
 */

/**
 * What is published.
 *
 * @typedef {object} Published
 * @property {MediaStream | null} stream its first audio track is sent; null only opens a session
 * @property {Mode} mode
 * @property {string | null} token
 * @property {string} [name] of the recording, where the token does not say it
 * @property {string} [room]
 * @property {() => Promise<object | null>} spool what the server has to know of the page's own copy,
 *   at the moment of the offer; null without one
 */

const SDP = "application/sdp";
const FRAGMENT = "application/trickle-ice-sdpfrag";
/** What an answer to a request may take: a network that swallows everything must not hold us. */
const ANSWER_MS = 10_000;

/** One peer connection that publishes. Its owner listens to `onstate`, and closes it. */
export class Publication {
  /**
   * @param {RTCPeerConnection} peer
   * @param {Published} published
   */
  constructor(peer, published) {
    this.peer = peer;
    this.mode = published.mode;
    this.token = published.token ?? undefined;
    /** @type {(state: RTCPeerConnectionState) => void} */
    this.onstate = () => {};
    /** @type {Session} */
    this.session = { id: "", secret: "" };
    this.url = "";
    /** The entity tag of the ICE session; null while the server has not answered for it yet. */
    this.etag = /** @type {string | null} */ (null);
    this.ice = iceOf("");
    /** @type {(string | null)[]} candidates that the server has not been told */
    this.untold = [];
    this.telling = false;
    peer.onconnectionstatechange = () => this.onstate(peer.connectionState);
    peer.onicecandidate = ({ candidate }) => this.#tell(candidate);
  }

  /**
   * Offers a stream to the server. The connection is made after that: see `state` and `onstate`.
   *
   * @param {Published} published
   * @param {Session | null} session the one to go on with; null opens one
   * @param {AbortSignal} [signal] gives up
   * @returns {Promise<Publication>}
   * @throws {ApiError}
   */
  static async open(published, session, signal) {
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    try {
      const { stream } = published;
      peer.addTransceiver(stream?.getAudioTracks()[0] ?? "audio", {
        direction: "sendonly",
        streams: stream ? [stream] : [],
      });
      const publication = new Publication(peer, published);
      await publication.#offer(published, session, signal);
      return publication;
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  /** @returns {RTCPeerConnectionState} */
  get state() {
    return this.peer.connectionState;
  }

  /**
   * Restarts ICE: another path to the same server, for the same connection.
   *
   * @param {AbortSignal} [signal]
   * @throws {ApiError}
   */
  async restart(signal) {
    const offer = await this.peer.createOffer({ iceRestart: true });
    const sdp = withOpus(offer.sdp ?? "", this.mode);
    this.etag = null;
    this.untold = [];
    this.ice = iceOf(sdp);
    await this.peer.setLocalDescription({ type: "offer", sdp });
    try {
      const answer = await this.#patch([], "*", signal);
      if (answer.status !== 200) throw new ApiError(answer.status, "ICE was not restarted");
      const remote = withIceOf(this.peer.remoteDescription?.sdp ?? "", await answer.text());
      await this.peer.setRemoteDescription({ type: "answer", sdp: remote });
      this.etag = answer.headers.get("ETag") ?? "*";
    } catch (error) {
      // later offers begin where this one did
      if (this.peer.signalingState === "have-local-offer")
        await this.peer.setLocalDescription({ type: "rollback" });
      throw error;
    }
    void this.#trickle();
  }

  /**
   * Returns how the live sound fares: the round trip in seconds, and the share of packets that the
   * server has lost since it last told (0 to 1); null for what is not known.
   *
   * @returns {Promise<{ roundTripS: number | null, lost: number | null }>}
   */
  async figures() {
    const figures = { roundTripS: null, lost: null };
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type !== "remote-inbound-rtp") continue;
      figures.roundTripS = report.roundTripTime ?? null;
      figures.lost = report.fractionLost ?? null;
    }
    return figures;
  }

  /** Closes the connection; the session goes on for as long as the server waits. */
  abandon() {
    this.peer.onconnectionstatechange = null;
    this.peer.onicecandidate = null;
    this.onstate = () => {};
    this.peer.close();
  }

  /**
   * @param {Published} published
   * @param {Session | null} session
   * @param {AbortSignal} [signal]
   */
  async #offer(published, session, signal) {
    const offer = await this.peer.createOffer();
    const sdp = withOpus(offer.sdp ?? "", this.mode);
    this.ice = iceOf(sdp);
    const query = new URLSearchParams();
    if (published.name) query.set("name", published.name);
    if (published.room) query.set("room", published.room);
    const spool = await published.spool();
    const asked = {
      token: this.token,
      headers: {
        "Content-Type": SDP,
        ...(spool ? { "Gapless-Spool": JSON.stringify(spool) } : {}),
        ...(session ? { "Gapless-Resume": session.secret } : {}),
      },
      body: sdp,
    };
    const offered = () =>
      send("POST", `/whip${query.size ? `?${query}` : ""}`, { ...asked, signal: within(signal) });
    const answer = await offered().catch((error) => {
      // the answer may have been lost, and with it the only session that a link opens: the same offer
      // gets the same answer
      if (session || signal?.aborted || (error instanceof ApiError && error.status)) throw error;
      return offered();
    });
    const where = new URL(answer.headers.get("Location") ?? "", location.href);
    const secret = where.pathname.split("/").at(-1) ?? "";
    this.url = where.pathname;
    this.session = { id: answer.headers.get("Gapless-Session") ?? session?.id ?? "", secret };
    // gathering begins with the local description, and needs the servers
    const iceServers = iceServersOf(answer.headers.get("Link"));
    if (iceServers.length)
      this.peer.setConfiguration({ ...this.peer.getConfiguration(), iceServers });
    await this.peer.setLocalDescription({ type: "offer", sdp });
    await this.peer.setRemoteDescription({
      type: "answer",
      sdp: withOpus(await answer.text(), this.mode),
    });
    this.etag = answer.headers.get("ETag") ?? "*";
    void this.#trickle();
  }

  /** @param {RTCIceCandidate | null} candidate null, or an empty one, after the last */
  #tell(candidate) {
    const text = candidate?.candidate || null;
    // those of an ICE session before a restart are of no use
    if (text && candidate?.usernameFragment && candidate.usernameFragment !== this.ice.ufrag)
      return;
    if (text === null && this.untold.at(-1) === null) return;
    this.untold.push(text);
    void this.#trickle();
  }

  /** Tells the server the candidates, several in a request if they come faster than it answers. */
  async #trickle() {
    if (this.telling || this.etag === null || !this.untold.length) return;
    this.telling = true;
    const told = this.untold.splice(0);
    try {
      await this.#patch(told, this.etag);
    } catch (error) {
      // nothing to do: without a network none of them works, and a restart has others
      console.info("candidates were not told:", String(error));
    } finally {
      this.telling = false;
    }
    await this.#trickle();
  }

  /**
   * @param {(string | null)[]} candidates
   * @param {string} ifMatch
   * @param {AbortSignal} [signal]
   */
  #patch(candidates, ifMatch, signal) {
    return send("PATCH", this.url, {
      token: this.token,
      headers: { "Content-Type": FRAGMENT, "If-Match": ifMatch },
      body: fragmentOf(this.ice, candidates),
      signal: within(signal),
    });
  }
}

/**
 * Ends a session at the server, after what is on its way. Raises nothing: without this the server
 * waits for a while, and ends it then.
 *
 * @param {Session} session
 * @param {string | null} token
 * @returns {Promise<boolean>} whether the server has ended it now
 */
export async function endSession({ secret }, token) {
  try {
    await send("DELETE", `/whip/${secret}`, {
      token: token ?? undefined,
      keepalive: true,
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return true;
  } catch {
    return false;
  }
}

/**
 * Returns whether a session can still be gone on with; null if the server cannot be asked.
 *
 * @param {Session} session
 * @param {string | null} token
 * @returns {Promise<boolean | null>}
 */
export async function isAlive({ secret }, token) {
  try {
    await send("GET", `/whip/${secret}`, {
      token: token ?? undefined,
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return true;
  } catch (error) {
    return error instanceof ApiError && error.status >= 400 && error.status < 500 ? false : null;
  }
}

/** @param {AbortSignal} [signal] */
function within(signal) {
  const timeout = AbortSignal.timeout(ANSWER_MS);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}
