// What earlier pages have captured, and the server does not have: found, sent, or gone on with.

import { sessionFor } from "./publish.js";
import { outcomeOf } from "./recording.js";
import { Spool } from "./spool.js";
import { endSession, isAlive } from "./whip.js";

/** @typedef {import("./state.js").Debt} Debt */
/** @typedef {import("./spool.js").Owed} Owed */

/** How often a session that can be gone on with is looked at: there is no event for its end. */
const LOOK_MS = 5000;

/** The debts of this browser to the server. */
export class Debts {
  /**
   * @param {import("./invitation.js").Invitation} invitation of who has opened the page
   * @param {(debts: Debt[]) => void} show
   */
  constructor(invitation, show) {
    this.invitation = invitation;
    this.token = invitation.token;
    this.show = show;
    /** @type {Map<string, Debt>} */
    this.debts = new Map();
    /** @type {Map<string, Owed>} as they were found */
    this.owed = new Map();
    /** @type {Map<string, Spool>} */
    this.spools = new Map();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Whether something is being sent that closing the page would interrupt. */
  get isSending() {
    return [...this.debts.values()].some((debt) => debt.state === "sending");
  }

  /** Looks for what is owed, and sends it, one after the other. */
  async settle() {
    const found = (await Spool.owed()).filter(({ id }) => !this.debts.has(id));
    for (const { id, name, startedAt, seconds, owedS } of found)
      this.#note({ id, name, startedAt, seconds, owedS, state: "waiting", isAlive: false });
    for (const owed of found) {
      this.owed.set(owed.id, owed);
      try {
        if (await this.#canGoOn(owed)) await this.#hold(owed);
        else if (owed.session || this.#isOwn(owed)) await this.#send(owed);
        else this.#change(owed.id, { state: "elsewhere" });
      } catch (error) {
        // another page has it, or the browser cannot read it
        const detail = error instanceof Error ? error.message : String(error);
        this.#change(owed.id, { state: "refused", detail });
      }
    }
  }

  /**
   * Hands over a spool whose recording can be gone on with.
   *
   * @param {string} id
   * @returns {Promise<Spool | null>} null if it cannot any more: the rest is sent
   */
  async take(id) {
    const spool = this.spools.get(id) ?? null;
    if (!spool?.session || !this.debts.get(id)?.isAlive) return null;
    // it may have ended since it was looked at; a server that cannot be reached may still have it
    const isOver = (await isAlive(spool.session, this.token)) === false;
    if (this.spools.get(id) !== spool) return null;
    if (isOver) {
      this.spools.delete(id);
      void this.#finish(id, spool);
      return null;
    }
    this.#forget(id);
    return spool;
  }

  /**
   * Takes back a spool that was handed over, and cannot be gone on with.
   *
   * @param {Spool} spool
   */
  async giveBack(spool) {
    await spool.close();
    this.settle().catch((error) => console.error(error));
  }

  /** @param {string} id */
  async discard(id) {
    await this.spools.get(id)?.close();
    await Spool.discard(id);
    this.#forget(id);
  }

  /** @param {string} id */
  async export(id) {
    return await (this.spools.get(id)?.export() ?? Spool.export(id));
  }

  /**
   * Whether it was captured with this invitation. Several guests may use one browser, and what one
   * of them has said is not to become a recording of another, or to use up an invitation.
   *
   * @param {Owed} owed
   */
  #isOwn({ name, room }) {
    const { invitation } = this;
    return !this.token || (name === invitation.name && room === invitation.room);
  }

  /** @param {Owed} owed */
  async #canGoOn({ session, isEnded }) {
    return session !== null && !isEnded && (await isAlive(session, this.token)) === true;
  }

  /**
   * Keeps a spool open: what is owed is sent, and capturing may go on.
   *
   * @param {Owed} owed
   */
  async #hold(owed) {
    const spool = await this.#open(owed.id, Spool.resume(owed.id));
    this.#change(owed.id, { isAlive: this.#isOwn(owed) });
    const look = async () => {
      if (this.spools.get(owed.id) !== spool) return;
      if (await this.#canGoOn(owed)) this.timer = setTimeout(look, LOOK_MS);
      else if (this.spools.get(owed.id) === spool) await this.#finish(owed.id, spool);
    };
    this.timer = setTimeout(look, LOOK_MS);
  }

  /**
   * Returns how a session is opened for a spool.
   *
   * @param {string} id
   * @param {Spool} spool
   */
  #published(id, spool) {
    // what the token says of them counts, and only it
    const { name, room } = (!this.token && this.owed.get(id)) || { name: "", room: "" };
    const offer = async () => await spool.offer();
    return { mode: /** @type {const} */ ("voice"), token: this.token, name, room, spool: offer };
  }

  /** @param {Owed} owed */
  async #send(owed) {
    const spool = await this.#open(owed.id, Spool.send(owed.id));
    if (spool.session) await endSession(spool.session, this.token);
    else {
      const session = await sessionFor(this.#published(owed.id, spool));
      if (!session) {
        await spool.close();
        this.spools.delete(owed.id);
        this.#change(owed.id, { state: "refused", detail: "" });
        return;
      }
      await spool.attach(session);
    }
    await this.#finish(owed.id, spool);
  }

  /**
   * @param {string} id
   * @param {Promise<Spool>} opening
   */
  async #open(id, opening) {
    const spool = await opening;
    this.spools.set(id, spool);
    spool.onprogress = ({ owedS, capturedS }) => this.#change(id, { owedS, seconds: capturedS });
    return spool;
  }

  /**
   * @param {string} id
   * @param {Spool} spool
   */
  async #finish(id, spool) {
    this.#change(id, { state: "sending", isAlive: false });
    const owed = this.owed.get(id);
    const published = owed && this.#isOwn(owed) ? this.#published(id, spool) : null;
    const { state, detail } = await outcomeOf(spool, published);
    await spool.close();
    this.spools.delete(id);
    // also what a server that restores nothing has not: it stays here until somebody deletes it
    if (state !== "safe") this.#change(id, { state: "refused", detail });
    else this.#change(id, { state: "sent", owedS: 0 });
  }

  /** @param {Debt} debt */
  #note(debt) {
    this.debts.set(debt.id, debt);
    this.show([...this.debts.values()]);
  }

  /**
   * @param {string} id
   * @param {Partial<Debt>} changes
   */
  #change(id, changes) {
    const debt = this.debts.get(id);
    if (debt) this.#note({ ...debt, ...changes });
  }

  /** @param {string} id */
  #forget(id) {
    this.debts.delete(id);
    this.spools.delete(id);
    this.show([...this.debts.values()]);
  }
}
