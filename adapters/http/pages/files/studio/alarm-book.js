// Which alarms are on, which were dismissed, and which are over.

/** @typedef {import("api").components["schemas"]["Alarm"]} Alarm */

const RANKS = { warning: 1, critical: 2 };
const MAX_ENDED = 100;

/** Keeps alarms. One that was dismissed comes back when its level rises. */
export class AlarmBook {
  /** @param {Record<string, string>} [dismissed] the levels of those that were, by their ids */
  constructor(dismissed = {}) {
    /** @type {Map<string, Alarm>} */
    this.on = new Map();
    /** @type {Alarm[]} the latest first */
    this.ended = [];
    /** @type {Map<string, string>} */
    this.dismissed = new Map(Object.entries(dismissed));
  }

  /**
   * Takes over what the server knows. What it knows no more is not remembered as dismissed.
   *
   * @param {{ on: Alarm[], ended: Alarm[] }} alarms
   */
  replace({ on, ended }) {
    this.on = new Map(on.map((alarm) => [alarm.id, alarm]));
    this.ended = ended.slice(0, MAX_ENDED);
    for (const id of this.dismissed.keys()) if (!this.on.has(id)) this.dismissed.delete(id);
  }

  /** @param {Alarm} alarm that begins, or gets worse */
  raise(alarm) {
    this.on.set(alarm.id, alarm);
  }

  /** @param {Alarm} alarm that is over */
  end(alarm) {
    this.on.delete(alarm.id);
    this.dismissed.delete(alarm.id);
    this.ended = [alarm, ...this.ended.filter(({ id }) => id !== alarm.id)].slice(0, MAX_ENDED);
  }

  /** @param {string} id */
  dismiss(id) {
    const alarm = this.on.get(id);
    if (alarm) this.dismissed.set(id, alarm.level);
  }

  /** @param {Alarm} alarm */
  isDismissed({ id, level }) {
    return rank(this.dismissed.get(id)) >= rank(level);
  }

  /** Returns the alarms that are on and were not dismissed: critical ones first, then the oldest. */
  shown() {
    return this.all().filter((alarm) => !this.isDismissed(alarm));
  }

  /** Returns the alarms that are on, in the same order. */
  all() {
    return [...this.on.values()].sort(
      (one, other) => rank(other.level) - rank(one.level) || one.since.localeCompare(other.since),
    );
  }

  /**
   * Returns the alarms of a session that are on.
   *
   * @param {string} session
   */
  of(session) {
    return this.all().filter((alarm) => alarm.session === session);
  }
}

/** @param {string | undefined} level */
function rank(level) {
  return level === "warning" || level === "critical" ? RANKS[level] : 0;
}
