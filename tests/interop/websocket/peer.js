// A real WebSocket peer on the library `ws`, for the end-to-end tests: an echo server, or a client that says one message,
// hears it again and waits for its end. One JSON object per line on standard output says what happened.
'use strict';

const { WebSocket, WebSocketServer } = require('ws');

const say = (what) => console.log(JSON.stringify(what));
const sayEnd = (code) => say({ closed: code });

function server() {
  const options = { host: '127.0.0.1', port: 0, perMessageDeflate: true };
  const listening = new WebSocketServer(options, () => say({ ready: true, port: listening.address().port }));
  listening.on('connection', (connection) => {
    connection.on('message', (message, isBinary) => connection.send(message, { binary: isBinary }));
    connection.on('close', sayEnd);
  });
  process.stdin.on('end', () => process.exit(0)).resume();
}

function client(address) {
  // A message that compresses well, so that the extension is really used.
  const message = 'hello '.repeat(1000);
  const connection = new WebSocket(`ws://${address}/chat`);
  connection.on('open', () => connection.send(message));
  connection.on('message', (heard) => say({ heard: heard.toString() === message }));
  connection.on('close', sayEnd);
}

if (process.argv[2] === 'server') server();
else client(process.argv[3]);
