// What became of every call of a case: each call must get exactly one outcome, "ok", "wrong_reply" or the name of the
// error that the library gave.
'use strict';

class Outcomes {
  constructor() {
    this.counts = {};
    this.perCall = new Map();
    this.doubled = 0;
    this.lastError = '';
    this.lastReply = '';
  }

  started(serial) {
    this.perCall.set(serial, 0);
  }

  ended(serial, outcome, detail) {
    const times = (this.perCall.get(serial) || 0) + 1;
    this.perCall.set(serial, times);
    if (times > 1) this.doubled++;
    this.counts[outcome] = (this.counts[outcome] || 0) + 1;
    if (outcome === 'ok') this.lastReply = detail.slice(0, 200);
    else this.lastError = outcome + ': ' + detail.slice(0, 200);
  }

  count(outcome) {
    return this.counts[outcome] || 0;
  }

  missing() {
    return Array.from(this.perCall.values()).filter(times => times === 0).length;
  }

  // True when every call that started ended once, and each in one of the expected ways (all ways if null).
  asExpected(expected) {
    const each = this.missing() === 0 && this.doubled === 0 && !this.counts.wrong_reply;
    return each && (expected === null || Object.keys(this.counts).every(outcome => expected.includes(outcome)));
  }

  json() {
    return {
      sent: this.perCall.size,
      answered: Object.values(this.counts).reduce((sum, one) => sum + one, 0),
      doubled: this.doubled,
      missing: this.missing(),
      outcomes: this.counts,
      last_reply: this.lastReply,
      last_error: this.lastError,
    };
  }
}

module.exports = Outcomes;
