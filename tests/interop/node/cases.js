// The cases that the client can run, one Cases per command. Each drives a Session, checks every reply against the call
// that it belongs to, and gives one answer. Which case exists and what it takes is in ../README.md.
'use strict';

const { message, ofResponse, pattern } = require('./message');
const Outcomes = require('./outcomes');
const Session = require('./session');

const CONCURRENCY_MAX = 512;
const GRACE_MS = 5000;
const RESTART_PAUSE_MS = 5;
const SIZES = '0,1,1024,65536,1048576,4194304';

let serials = 0;

class Cases {
  constructor(command, session, event) {
    this.command = { ...command };
    this.session = session;
    this.event = event;
    this.outcomes = new Outcomes();
    this.stopped = false;
    this.detail = '';
    this.extra = {};
  }

  stop() {
    this.stopped = true;
  }

  progress() {
    return this.outcomes.json();
  }

  async run() {
    if ((this.command.payload || 'sofa') !== 'sofa') throw new Error('sofa-bolt-node speaks payload "sofa" only');
    const name = this.command.case;
    const known = typeof name === 'string' && Object.hasOwn(CASES, name);
    if (!known) this.detail = 'unknown case';
    const ok = known && await CASES[name].call(this);
    return { ok, detail: this.detail, ...this.extra, ...this.outcomes.json(), ...this.session.json() };
  }

  preset(values) {
    this.command = { ...values, ...this.command };
  }

  number(key, absent) {
    return key in this.command ? Number(this.command[key]) : absent;
  }

  expected(absent) {
    const { expect } = this.command;
    if (expect === undefined) return absent;
    return Array.isArray(expect) ? expect : String(expect).split(',');
  }

  async calls() {
    let left = this.number('count', 10);
    await inParallel(Math.min(this.number('concurrency', 1), CONCURRENCY_MAX), async () => {
      while (left-- > 0) await this.call(this.number('size', 64));
    });
    return this.outcomes.asExpected(this.expected([ 'ok' ]));
  }

  // One call and its outcome; true if the reply was the right one.
  async call(size) {
    const serial = ++serials;
    const said = message(this.command.op || 'echo', serial, this.number('argument', 0), pattern(serial, size));
    this.outcomes.started(serial);
    try {
      return this.judge(said, await this.session.call(said, this.command.service, this.number('timeout_ms', 5000)));
    } catch (error) {
      this.outcomes.ended(serial, error.name, error.message);
      return false;
    }
  }

  judge(said, result) {
    const reply = ofResponse(result);
    const ok = matches(said, reply);
    const text = reply.body.length > 200 ? reply.body.length + ' bytes' : reply.body.toString();
    const failed = reply.op === 'callback_failed' ? 'callback_failed:' + text : 'wrong_reply';
    this.outcomes.ended(said.serial, ok ? 'ok' : failed, text);
    return ok;
  }
}

const CASES = {
  sync() { return this.calls(); },
  future() { return this.calls(); },
  callback() { return this.calls(); },

  concurrent() {
    this.preset({ count: 200, concurrency: 200, op: 'sleep', argument: 100, timeout_ms: 10000 });
    return this.calls();
  },

  async sizes() {
    this.preset({ timeout_ms: 30000, sizes: SIZES });
    for (const size of String(this.command.sizes).split(',')) {
      for (let i = 0; i < this.number('count', 1); i++) await this.call(Number(size));
    }
    return this.outcomes.asExpected(this.expected([ 'ok' ]));
  },

  bulk() {
    this.preset({ op: 'bytes', argument: 4 << 20, count: 8, concurrency: 8, timeout_ms: 30000, size: 0 });
    return this.calls();
  },

  error() {
    this.preset({ op: 'error', expect: 'ServerError' });
    return this.calls();
  },

  // Calls that outlive their timeout, then a call on the same connection that must be unharmed.
  async timeout() {
    this.preset({ op: 'sleep', argument: 1500, timeout_ms: 300, count: 3, expect: 'BoltResponseTimeoutError,ServerError' });
    if (!await this.calls()) return false;
    const serial = ++serials;
    const echo = message('echo', serial, 0, 'after the timeout');
    const reply = ofResponse(await this.session.call(echo, this.command.service, GRACE_MS));
    this.detail = 'timed out, then one answered';
    return matches(echo, reply) && this.session.connects === 1;
  },

  async duplex() {
    this.preset({ op: 'callback' });
    return await this.calls() && this.session.called === this.number('count', 10);
  },

  async oneway() {
    const count = this.number('count', 100);
    // Random, since many clients may count at one server.
    const key = Math.floor(Math.random() * 0x7fffffff);
    for (let i = 0; i < count; i++) {
      const serial = ++serials;
      await this.session.oneway(message('oneway', serial, key, pattern(serial, this.number('size', 64))), this.command.service);
    }
    const deadline = Date.now() + GRACE_MS;
    let counted;
    do {
      const ask = message('count', ++serials, key, '');
      counted = ofResponse(await this.session.call(ask, this.command.service, GRACE_MS));
    } while (counted.argument < count && Date.now() < deadline);
    this.extra = { arrived: counted.argument, arrived_distinct: Number(counted.body.toString()) };
    this.detail = 'sent ' + count;
    return counted.argument === count && this.extra.arrived_distinct === count;
  },

  // One call, an idle time in which heartbeats are sent and acknowledged, one more call over the same connection.
  async heartbeat() {
    await this.call(64);
    const before = this.session.wire.received('heartbeat_ack');
    const deadline = Date.now() + this.number('idle_ms', 2000);
    const interval = this.number('heartbeat_ms', 500);
    while (Date.now() < deadline && !this.stopped && this.session.closes === 0) {
      await this.session.awaitClose(Math.min(interval, Math.max(1, deadline - Date.now())));
      if (this.session.closes === 0) await this.session.heartbeat(this.number('timeout_ms', 3000));
    }
    const acknowledged = this.session.wire.received('heartbeat_ack') - before;
    await this.call(64);
    this.detail = acknowledged + ' heartbeats acknowledged while idle';
    this.extra = { heartbeat_acks: acknowledged };
    const oneConnection = this.session.connects === 1 && this.session.closes === 0;
    return oneConnection && acknowledged >= this.number('acks_min', 1) && this.outcomes.asExpected([ 'ok' ]);
  },

  // Waits until the connection is closed under it; calls that the server leaves open get their outcome then.
  async closed() {
    const timeoutMs = this.number('timeout_ms', 10000);
    const first = message('echo', ++serials, 0, 'first');
    await this.session.call(first, this.command.service, timeoutMs);
    this.preset({ op: 'silent' });
    const open = [];
    for (let i = 0; i < Math.min(this.number('count', 0), CONCURRENCY_MAX); i++) open.push(this.call(0));
    this.event({ event: 'connected' });
    const closed = await this.session.awaitClose(timeoutMs);
    await Promise.all(open);
    this.detail = closed ? 'closed by the other side' : 'still open';
    return closed && this.outcomes.asExpected(this.expected(null));
  },

  // Calls without pause until stopped; a failed call is followed by a short pause and the next call.
  async load() {
    const deadline = Date.now() + this.number('duration_ms', 60000);
    let running = false;
    await inParallel(Math.min(this.number('concurrency', 16), CONCURRENCY_MAX), async () => {
      while (!this.stopped && Date.now() < deadline) {
        const ok = await this.call(this.number('size', 64));
        if (ok && !running) {
          running = true;
          this.event({ event: 'running' });
        }
        if (!ok) await new Promise(resolve => setTimeout(resolve, RESTART_PAUSE_MS));
      }
    });
    this.detail = this.stopped ? 'stopped' : 'time is over';
    return this.outcomes.asExpected(this.expected(null)) && this.outcomes.count('ok') > 0;
  },
};

const matches = (asked, reply) => {
  if (reply.serial !== asked.serial) return false;
  switch (asked.op) {
    case 'bytes':
      return reply.body.equals(pattern(asked.serial, asked.argument));
    case 'callback':
      return reply.op === 'callback' && reply.body.toString() === asked.body.toString() + Session.CLIENT_SUFFIX;
    case 'name':
      return reply.op === 'name';
    default:
      return reply.op === asked.op && reply.body.equals(asked.body);
  }
};

const inParallel = (width, work) => Promise.all(Array.from({ length: Math.max(1, width) }, work));

module.exports = Cases;
