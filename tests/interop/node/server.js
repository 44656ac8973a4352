// A server on sofa-bolt-node's codec and connection that does what each request asks for (see ../README.md). It prints
// one line when it is ready, answers JSON lines on standard input, and ends when standard input ends.
'use strict';

const net = require('net');
const Connection = require('connection');
const bolt = require('sofa-bolt-node');
const lines = require('./lines');
const { message, ofRequest, ofResponse, pattern, request, response } = require('./message');
const Wire = require('./wire');

const REPLY_BYTES_MAX = 64 << 20;
const CALLBACK_TIMEOUT_MS = 3000;

const options = lines.argumentsOf(process.argv.slice(2));
const wire = new Wire();
const connections = new Map();
const oneways = new Map();
let accepted = 0;
let handled = 0;

const server = net.createServer(socket => {
  accepted++;
  socket.setNoDelay(true);
  wire.tap(socket);
  const connection = new Connection({
    socket,
    logger: lines.logger,
    protocol: { name: 'Bolt', encoder: bolt.encoder, decoder: bolt.decoder },
  });
  connections.set(connection, socket);
  connection.on('close', () => connections.delete(connection));
  connection.on('heartbeat', beat => connection.writeHeartbeatAck(beat).catch(report));
  connection.on('request', asked => handle(connection, socket, asked).catch(report));
});

const report = error => console.error(error && error.message);

const handle = async (connection, socket, asked) => {
  handled++;
  const said = ofRequest(asked.data);
  const reply = answer => connection.writeResponse(asked, response(answer));
  switch (said.op) {
    case 'echo':
      return reply(said);
    case 'sleep':
      await new Promise(resolve => setTimeout(resolve, said.argument));
      return reply(said);
    case 'error':
      return connection.writeResponse(asked, { isError: true, errorMsg: said.body.toString() });
    case 'bytes': {
      const length = Math.max(0, Math.min(said.argument, REPLY_BYTES_MAX));
      return reply(message('bytes', said.serial, length, pattern(said.serial, length)));
    }
    case 'name':
      return reply(message('name', said.serial, 0, String(options.name || 'node')));
    case 'oneway': {
      const serials = oneways.get(said.argument) || new Map();
      serials.set(said.serial, (serials.get(said.serial) || 0) + 1);
      return oneways.set(said.argument, serials);
    }
    case 'count': {
      const serials = oneways.get(said.argument) || new Map();
      const total = Array.from(serials.values()).reduce((sum, one) => sum + one, 0);
      return reply(message('count', said.serial, total, String(serials.size)));
    }
    case 'callback':
      return reply(await callBack(connection, asked, said));
    case 'close':
      return socket.destroy();
    case 'silent':
      return undefined;
    default:
      return connection.writeResponse(asked, { isError: true, errorMsg: 'unknown op ' + said.op });
  }
};

// Calls the client over the connection that its request came on, in the version of that request.
const callBack = async (connection, asked, said) => {
  const encoder = connection._encoder;
  encoder.protocolType = asked.options.protocolType;
  encoder.boltVersion = asked.options.boltVersion || 1;
  encoder.crcEnable = !!asked.options.crcEnable;
  const timeout = said.argument > 0 ? said.argument : CALLBACK_TIMEOUT_MS;
  try {
    const answer = await connection.writeRequest(request(message('called', said.serial, 0, said.body), 'client', timeout));
    if (answer.data.error) throw answer.data.error;
    return message('callback', said.serial, 0, ofResponse(answer.data.appResponse).body);
  } catch (error) {
    return message('callback_failed', said.serial, 0, error.name);
  }
};

const command = asked => {
  switch (asked.cmd) {
    case 'stats':
      return { ok: true, accepted, connections: connections.size, handled, wire: wire.json() };
    case 'close_connections': {
      const closed = connections.size;
      connections.forEach(socket => socket.destroy());
      return { ok: true, closed };
    }
    default:
      return { ok: false, detail: 'unknown cmd' };
  }
};

server.listen(options.port || 0, options.address || '127.0.0.1', () => {
  lines.print({ ready: true, port: server.address().port, peer: 'node' });
  lines.each(asked => lines.print({ cmd: asked.cmd, ...command(asked) }), () => process.exit(0));
});
