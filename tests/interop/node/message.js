// The one request and reply of the peers: an operation, a serial that is unique per call, a number whose meaning depends
// on the operation, and bytes. sofa-bolt-node can carry it only as SofaRequest and SofaResponse (payload "sofa").
'use strict';

// Bytes that depend on the call, so that an answer that belongs to another call is noticed. The same as in Java.
exports.pattern = (serial, length) => {
  const bytes = Buffer.allocUnsafe(length);
  // The sum is 32 bits wide and signed in Java; serials are small enough here that it never is.
  for (let i = 0; i < length; i++) bytes[i] = 97 + ((serial * 7 + i * 3 + (i >> 8)) % 26);
  return bytes;
};

exports.request = (message, service, timeout) => ({
  serverSignature: service || 'interop',
  targetAppName: 'interop',
  methodName: message.op,
  args: [ message.serial, message.argument, message.body ],
  timeout,
});

exports.ofRequest = data => message(data.methodName, data.args[0], data.args[1], data.args[2]);

exports.ofResponse = list => {
  if (!Array.isArray(list)) throw new Error('not a message: ' + JSON.stringify(list));
  return message(...list);
};

exports.response = reply => ({
  isError: false,
  appResponse: [ reply.op, reply.serial, reply.argument, reply.body ],
});

const message = (op, serial, argument, body) => {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body || '');
  return { op, serial, argument, body: bytes };
};
exports.message = message;
