// Counts what really goes over the connections, by kind and protocol version ("heartbeat v1", "request v2crc") and the
// status of every response that comes in; the library hides all of it. One Wire serves all connections of a peer.
'use strict';

class Wire {
  constructor() {
    this.counts = { sent: {}, received: {}, statuses: {} };
  }

  // Looks at both directions of a socket, beside whoever uses it.
  tap(socket) {
    const inbound = new Frames(this.counts.received, this.counts.statuses);
    const outbound = new Frames(this.counts.sent, null);
    socket.on('data', chunk => inbound.feed(chunk));
    const write = socket.write;
    socket.write = function(chunk, ...rest) {
      if (Buffer.isBuffer(chunk)) outbound.feed(chunk);
      return write.call(this, chunk, ...rest);
    };
  }

  json() {
    return this.counts;
  }

  received(kind) {
    const keys = Object.keys(this.counts.received).filter(key => key.startsWith(kind + ' '));
    return keys.reduce((sum, key) => sum + this.counts.received[key], 0);
  }
}

// Finds the frames in one direction of one connection. It holds at most one frame head.
class Frames {
  constructor(kinds, statuses) {
    this.kinds = kinds;
    this.statuses = statuses;
    this.head = Buffer.alloc(24);
    this.filled = 0;
    this.skip = 0;
  }

  feed(chunk) {
    let at = 0;
    while (at < chunk.length) {
      if (this.skip > 0) {
        const step = Math.min(this.skip, chunk.length - at);
        this.skip -= step;
        at += step;
        continue;
      }
      this.head[this.filled++] = chunk[at++];
      if (this.filled >= 4 && this.filled === this.headLength()) {
        this.frame();
        this.filled = 0;
      }
    }
  }

  base() {
    return this.head[0] === 2 ? 1 : 0;
  }

  headLength() {
    return (this.head[1 + this.base()] === 0 ? 20 : 22) + 2 * this.base();
  }

  frame() {
    const { head } = this;
    const base = this.base();
    const response = head[1 + base] === 0;
    const lengths = this.headLength() - 8;
    // The trailer as this library understands it: by the switch alone.
    const crc = head[0] === 2 && head[11] === 1;
    this.skip = head.readUInt16BE(lengths) + head.readUInt16BE(lengths + 2) + head.readUInt32BE(lengths + 4) + (crc ? 4 : 0);
    count(this.kinds, this.kind() + ' ' + this.version(crc));
    if (response && this.statuses && head.readUInt16BE(2 + base) !== 0) {
      count(this.statuses, String(head.readUInt16BE(10 + 2 * base)));
    }
  }

  kind() {
    const type = this.head[1 + this.base()];
    const command = this.head.readUInt16BE(2 + this.base());
    if (command === 0) return type === 0 ? 'heartbeat_ack' : 'heartbeat';
    if (command === 100) return 'goaway';
    return [ 'response', 'request', 'oneway' ][type] || 'unknown';
  }

  version(crc) {
    if (this.head[0] !== 2) return 'v' + this.head[0];
    return this.head[1] === 1 ? 'v2' : crc ? 'v2crc' : 'v2plain';
  }
}

const count = (into, key) => {
  into[key] = (into[key] || 0) + 1;
};

module.exports = Wire;
