// One sofa-bolt-node RpcClient and what happened to its connection. It answers calls of the server.
'use strict';

const bolt = require('sofa-bolt-node');
const lines = require('./lines');
const { message, ofRequest, request, response } = require('./message');
const Wire = require('./wire');

const CLIENT_SUFFIX = '-from-client';

const VERSIONS = {
  v1: { protocolType: 'bolt', boltVersion: 1, crcEnable: false },
  v2: { protocolType: 'bolt2', boltVersion: 1, crcEnable: false },
  v2plain: { protocolType: 'bolt2', boltVersion: 2, crcEnable: false },
  v2crc: { protocolType: 'bolt2', boltVersion: 2, crcEnable: true },
};

class Session {
  constructor(command) {
    this.version = VERSIONS[command.protocol || 'v1'];
    if (!this.version) throw new Error('unknown protocol ' + command.protocol);
    const [ hostname, port ] = command.address.split(':');
    this.address = { hostname, port };
    this.wire = new Wire();
    this.connects = 0;
    this.closes = 0;
    this.called = 0;
    this.client = null;
    this.waiting = [];
  }

  // The library does not reconnect by itself, as the Java one does.
  async connect() {
    if (this.client) return this.client;
    const client = new bolt.RpcClient({ address: this.address, logger: lines.logger });
    this.client = client;
    this.wire.tap(client._socket);
    Object.assign(client.conn._encoder, this.version);
    client.on('error', error => console.error(error.message));
    client.conn.once('close', () => this.onClose(client));
    client.conn.on('request', asked => this.answer(client, asked));
    await client.ready();
    this.connects++;
    return client;
  }

  onClose(client) {
    this.closes++;
    if (this.client === client) this.client = null;
    this.waiting.splice(0).forEach(resolve => resolve(true));
  }

  // A suffix, so that the answer is known to come from here.
  answer(client, asked) {
    this.called++;
    const said = ofRequest(asked.data);
    const body = Buffer.concat([ said.body, Buffer.from(CLIENT_SUFFIX) ]);
    client.response(asked, response(message('answer', said.serial, 0, body))).catch(error => console.error(error.message));
  }

  async call(said, service, timeoutMs) {
    const client = await this.connect();
    const reply = await client.invoke(request(said, service, timeoutMs));
    if (reply.data.error) {
      reply.data.error.name = 'ServerError';
      throw reply.data.error;
    }
    return reply.data.appResponse;
  }

  async oneway(said, service) {
    const client = await this.connect();
    client.oneway(request(said, service, 3000));
  }

  async heartbeat(timeoutMs) {
    const client = await this.connect();
    await client.conn.writeHeartbeat({ timeout: timeoutMs });
  }

  // True when the connection is closed within the time.
  awaitClose(timeoutMs) {
    if (this.closes > 0) return Promise.resolve(true);
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve(false), timeoutMs);
      this.waiting.push(closed => {
        clearTimeout(timer);
        resolve(closed);
      });
    });
  }

  json() {
    return { connects: this.connects, closes: this.closes, called: this.called, wire: this.wire.json() };
  }

  close() {
    if (this.client) this.client._socket.destroy();
  }
}

Session.CLIENT_SUFFIX = CLIENT_SUFFIX;
module.exports = Session;
