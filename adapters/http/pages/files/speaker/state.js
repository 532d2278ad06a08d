// All that the speaker's page shows. The view is made from this alone.

/**
 * What an earlier page has captured, and the server does not have yet.
 *
 * @typedef {object} Debt
 * @property {string} id
 * @property {string} name of the recording; may be empty
 * @property {string | null} startedAt RFC 3339
 * @property {number} seconds
 * @property {number} owedS
 * @property {"waiting" | "sending" | "sent" | "refused" | "elsewhere"} state `elsewhere`: it was
 *   captured with another invitation, and never had a session
 * @property {boolean} isAlive whether its recording can be gone on with
 * @property {string} [detail] why it is refused
 */

/**
 * What became of the last recording.
 *
 * @typedef {object} Outcome
 * @property {"safe" | "owed" | "live" | "lost"} state safe: the server has confirmed all; owed: not
 *   all; live: no copy was kept or wanted, the server has what the network brought; lost: no copy was
 *   kept, and the server was never reached
 * @property {number} seconds
 * @property {string | null} sha256 of all samples, as page and server have counted it
 * @property {string} [detail] why not, in the server's words
 */

/**
 * Something that a browser did to the microphone.
 *
 * @typedef {object} Incident
 * @property {"mute" | "ended" | "back" | "interrupted" | "other" | "stall" | "full" | "quiet"} type
 * @property {number} [seconds]
 * @property {string} [text] name of a device
 */

/**
 * @typedef {object} State
 * @property {"opening" | "ready" | "recording" | "finishing" | "finished" | "refused"} screen
 * @property {{ name: string, room: string, isInvited: boolean, isExpired: boolean }} guest
 * @property {"ask" | "asking" | "denied" | "none" | "busy" | "insecure" | "unsupported"} permission
 *   why there is no microphone yet
 * @property {{ id: string, label: string }[]} microphones
 * @property {string} microphone the id of the one in use
 * @property {string} label its name
 * @property {import("./sdp.js").Mode} mode
 * @property {import("./hearing.js").Level[]} level
 * @property {import("./hearing.js").Verdict | "asleep"} hearing asleep: the browser waits for a touch or
 *   a key before it listens
 * @property {import("./connection.js").Condition} connection
 * @property {number} elapsedS captured since the recording began
 * @property {number} safeS what the server has confirmed, from the beginning on
 * @property {number} owedS
 * @property {"disk" | "memory" | "none"} keeping where the page keeps what it captures
 * @property {boolean} isMuted
 * @property {boolean} isPaused
 * @property {Incident | null} incident the last one that still matters
 * @property {import("./messages.js").Message[]} messages the latest last
 * @property {Debt[]} debts
 * @property {Outcome | null} outcome
 * @property {{ status: number, detail: string }} refusal
 */

/** @returns {State} */
export function initialState() {
  return {
    screen: "opening",
    guest: { name: "", room: "", isInvited: false, isExpired: false },
    permission: "asking",
    microphones: [],
    microphone: "",
    label: "",
    mode: "voice",
    level: [],
    hearing: "listening",
    connection: { state: "connecting" },
    elapsedS: 0,
    safeS: 0,
    owedS: 0,
    keeping: "disk",
    isMuted: false,
    isPaused: false,
    incident: null,
    messages: [],
    debts: [],
    outcome: null,
    refusal: { status: 0, detail: "" },
  };
}

/**
 * What people do on the page.
 *
 * @typedef {object} Actions
 * @property {() => void} allow
 * @property {(id: string) => void} choose
 * @property {(mode: import("./sdp.js").Mode) => void} change
 * @property {() => void} record
 * @property {(isPaused: boolean) => void} pause
 * @property {(isMuted: boolean) => void} mute
 * @property {() => void} stop
 * @property {() => void} again begins anew after a recording
 * @property {() => void} retry sends what is owed
 * @property {() => void} save downloads the last recording
 * @property {(id: string) => void} goOn with a recording of an earlier page
 * @property {(id: string) => void} saveDebt
 * @property {(id: string) => void} discard
 * @property {(id: string) => void} dismiss a message
 */
