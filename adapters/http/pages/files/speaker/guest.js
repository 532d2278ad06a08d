// What the speaker's page does: from the link to the recording that is safe on the server.

import { h } from "../shared/dom.js";
import { Awake } from "./awake.js";
import { Debts } from "./debts.js";
import { Hearing } from "./hearing.js";
import { isAllowed, microphones, obstacle, openMicrophone } from "./microphone.js";
import { Recording } from "./recording.js";
import { Spool } from "./spool.js";
import { initialState } from "./state.js";
import { viewIn } from "./view.js";

/** @typedef {import("./capture.js").Capture} Capture */
/** @typedef {import("./state.js").State} State */

/** Pauses between sentences are shorter. */
const SILENT_WHILE_RECORDING_S = 20;

/** One visit of a guest. */
export class Guest {
  /**
   * @param {HTMLElement} root
   * @param {import("./invitation.js").Invitation} invitation
   */
  constructor(root, invitation) {
    this.invitation = invitation;
    const { token, name, room, expiresAt } = invitation;
    this.state = initialState();
    this.state.guest = {
      name,
      room,
      isInvited: token !== null,
      isExpired: expiresAt !== null && expiresAt * 1000 < Date.now(),
    };
    this.render = viewIn(root, this.#actions());
    this.awake = new Awake();
    this.hearing = new Hearing();
    this.debts = new Debts(invitation, (debts) => this.#show({ debts }));
    /** @type {Capture | null} */
    this.capture = null;
    /** @type {Recording | null} */
    this.recording = null;
    /** @type {Spool | null} what a recording has left that is not safe */
    this.owed = null;
    /** Whether the speaker has just chosen another microphone. */
    this.choosing = false;
    /** One opening, change or end at a time. */
    this.busy = Promise.resolve();
  }

  /** Shows the page, sends what earlier ones owe, and opens the microphone if it may. */
  async start() {
    addEventListener("beforeunload", (event) => {
      if (this.#isNeeded) event.preventDefault();
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => void this.#listDevices());
    const reason = obstacle();
    const mayOpen = reason === null && (await isAllowed());
    this.#show({ permission: reason ?? (mayOpen ? "asking" : "ask") });
    void this.#settle();
    if (mayOpen) await this.#next(() => this.#openMicrophone());
  }

  /** Whether closing the page would end or interrupt something. */
  get #isNeeded() {
    const { screen, outcome, keeping } = this.state;
    const isLeft = screen === "finished" && outcome?.state === "owed" && keeping === "memory";
    return screen === "recording" || screen === "finishing" || isLeft || this.debts.isSending;
  }

  /** @returns {import("./state.js").Actions} */
  #actions() {
    const next = (/** @type {() => Promise<unknown>} */ work) => void this.#next(work);
    return {
      allow: () => next(() => this.#openMicrophone()),
      choose: (id) => next(() => this.#choose(id)),
      change: (mode) => next(() => this.#change(mode)),
      record: () => next(() => this.#record(null)),
      goOn: (id) => next(() => this.#goOn(id)),
      stop: () => next(() => this.#stop()),
      again: () => next(() => this.#openMicrophone()),
      retry: () => next(() => this.#retry()),
      save: () => next(async () => this.owed && download(await this.owed.export(), this.#fileName)),
      saveDebt: (id) => next(async () => download(await this.debts.export(id), this.#fileName)),
      discard: (id) => next(() => this.debts.discard(id)),
      pause: (isPaused) => {
        this.capture?.pause(isPaused);
        this.#show({ isPaused });
      },
      mute: (isMuted) => {
        this.capture?.mute(isMuted);
        this.#show({ isMuted });
      },
      dismiss: (id) => this.recording?.dismiss(id),
    };
  }

  /**
   * Does something after what is being done: a press may come while a microphone is being opened.
   *
   * @param {() => Promise<unknown>} work
   */
  #next(work) {
    this.busy = this.busy.then(work).then(
      () => {},
      (error) => console.error(error),
    );
    return this.busy;
  }

  /** @param {Partial<State>} changes */
  #show(changes) {
    Object.assign(this.state, changes);
    this.render(this.state);
  }

  async #settle() {
    try {
      await this.debts.settle();
    } catch (error) {
      // a browser without files for pages owes nothing either
      console.info("no earlier recordings:", String(error));
    }
  }

  /** @param {import("./opening.js").Shape} [like] sound that is gone on with */
  async #openMicrophone(like) {
    await this.capture?.close();
    this.capture = null;
    const { screen, mode, microphone } = this.state;
    if (screen !== "ready") this.#show({ screen: "opening", permission: "asking", outcome: null });
    const opened = await openMicrophone(microphone, mode, like);
    if (typeof opened === "string") {
      this.#show({ screen: "opening", permission: opened, level: [] });
      return;
    }
    this.capture = opened;
    this.hearing = new Hearing();
    opened.onlevel = (level) => {
      const hearing = this.hearing.note(level, performance.now() / 1000);
      // nobody sees a hidden page, and browsers give it little time
      if (document.visibilityState === "visible") this.#show({ level, hearing });
    };
    opened.onevent = (event) => {
      this.recording?.happened(event, { isWanted: this.choosing && event.type === "microphone" });
      if (event.type === "microphone" || event.type === "ended") void this.#listDevices();
    };
    await Promise.all([this.#listDevices(), Spool.prepare()]);
    const hearing = opened.isRunning ? "listening" : "asleep";
    this.#show({ screen: "ready", hearing, level: [], isMuted: false, isPaused: false });
  }

  async #listDevices() {
    if (!this.capture) return;
    const list = await microphones();
    const { deviceId, label } = this.capture;
    this.#show({ microphones: list, microphone: deviceId, label });
  }

  /** @param {string} id */
  async #choose(id) {
    this.choosing = true;
    try {
      await this.capture?.use(id);
      if (!this.recording) this.hearing = new Hearing();
    } catch (error) {
      console.warn("the other microphone cannot be opened:", error);
    } finally {
      this.choosing = false;
    }
    await this.#listDevices();
  }

  /** @param {import("./sdp.js").Mode} mode */
  async #change(mode) {
    this.#show({ mode });
    await this.#openMicrophone();
  }

  /**
   * Begins to record, or goes on with what an earlier page has begun.
   *
   * @param {Spool | null} spool
   */
  async #record(spool) {
    const { capture, invitation } = this;
    if (!capture) return;
    const { sampleRate, channels } = capture;
    const { name, room } = invitation;
    const kept = spool ?? (await begun({ sampleRate, channels, name, room }));
    this.hearing = new Hearing({ silentS: SILENT_WHILE_RECORDING_S });
    const recording = new Recording({
      capture,
      spool: kept,
      mode: this.state.mode,
      invitation,
      show: (changes) => this.#show(changes),
    });
    this.recording = recording;
    this.#show({
      screen: "recording",
      connection: { state: "connecting" },
      keeping: kept ? "disk" : "none",
      ...{ elapsedS: 0, safeS: 0, owedS: 0, incident: null, messages: [], hearing: "listening" },
    });
    void this.awake.want(true);
    await recording.start(kept?.session ?? null);
    void recording.ran?.then(() => this.#ran(recording));
  }

  /**
   * A connection gives up by itself only if the server refuses.
   *
   * @param {Recording} recording
   */
  async #ran(recording) {
    const { refusal } = recording;
    if (!refusal || this.state.screen !== "recording" || this.recording !== recording) return;
    this.recording = null;
    await recording.cancel();
    this.capture = null;
    if (recording.spool) await Spool.discard(recording.spool.id);
    await this.awake.want(false);
    this.#show({ screen: "refused", refusal });
  }

  /** @param {string} id of a debt */
  async #goOn(id) {
    const debt = this.state.debts.find((one) => one.id === id);
    const spool = await this.debts.take(id);
    // its sound goes on as it began
    if (spool?.channels === 2) this.state.mode = "music";
    if (!this.capture || (spool && !isLike(this.capture, spool)))
      await this.#openMicrophone(spool ?? undefined);
    if (spool && !(this.capture && isLike(this.capture, spool))) {
      // there is no microphone, or the browser cannot give its sound this rate
      await this.debts.giveBack(spool);
      await this.#record(null);
      return;
    }
    await this.#record(spool);
    if (spool && debt) this.#show({ elapsedS: debt.seconds, owedS: debt.owedS });
  }

  async #stop() {
    const { recording } = this;
    if (!recording || this.state.screen !== "recording") return;
    this.#show({ screen: "finishing" });
    const outcome = await recording.stop();
    this.recording = null;
    this.capture = null;
    await this.#finished(recording.spool, outcome);
  }

  /**
   * @param {Spool | null} spool
   * @param {import("./state.js").Outcome} outcome
   */
  async #finished(spool, outcome) {
    this.owed = outcome.state === "owed" ? spool : null;
    if (!this.owed) await spool?.close();
    await this.awake.want(false);
    this.#show({ screen: "finished", outcome });
  }

  /** Sends what the last recording owes as that of an earlier page is sent. */
  async #retry() {
    const { owed } = this;
    if (!owed) return;
    this.owed = null;
    await owed.close();
    void this.#settle();
    await this.#openMicrophone();
  }

  get #fileName() {
    const { name } = this.invitation;
    return `${name.replace(/[^\p{L}\p{N}]+/gu, "-") || "recording"}.wav`;
  }
}

/**
 * @param {import("./opening.js").Shape} one
 * @param {import("./opening.js").Shape} other
 */
function isLike(one, other) {
  return one.sampleRate === other.sampleRate && one.channels === other.channels;
}

/**
 * Begins a spool; null if the browser can keep nothing: live sound goes on without it.
 *
 * @param {import("./spool.js").Description} description
 */
async function begun(description) {
  try {
    return await Spool.begin(description);
  } catch (error) {
    console.error("nothing can be kept:", error);
    return null;
  }
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  // the browser has taken it by then
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
