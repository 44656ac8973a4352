// A real HTTP/1.1 server on Node's own `http`, for the end-to-end tests: it answers in every framing, keeps connections and
// closes idle ones early. One JSON object on standard output says where it listens; a second listener is for the test
// alone: it says what was seen, and closes idle connections when asked to.
'use strict';

const http = require('http');

const seen = { connections: 0, requests: 0, expects: 0 };

/** Chunks that leave one by one. */
function chunks(count, response) {
  let at = 0;
  const next = () => {
    if (at === count) return response.end();
    response.write(`chunk ${at++}\n`);
    setImmediate(next);
  };
  next();
}

function echo(request, response) {
  const length = request.headers['content-length'];
  if (length !== undefined) response.setHeader('Content-Length', length);
  request.pipe(response);
}

function serve(request, response) {
  seen.requests += 1;
  const [, word, figure] = request.url.split('/');
  switch (word) {
    case 'echo':
      return echo(request, response);
    case 'chunks':
      return chunks(Number(figure), response);
    case 'close':
      response.setHeader('Connection', 'close');
      return response.end(request.url);
    case 'trailers':
      response.writeHead(200, { Trailer: 'X-Sum' });
      response.write('body');
      response.addTrailers({ 'X-Sum': '7' });
      return response.end();
    case 'empty':
      response.statusCode = 204;
      return response.end();
    default:
      // Known at once, so Node gives it a length.
      return response.end(request.url);
  }
}

const server = http.createServer({ keepAliveTimeout: Number(process.argv[2] || 60000) }, serve);
server.on('connection', () => { seen.connections += 1; });
server.on('checkContinue', (request, response) => {
  seen.expects += 1;
  response.writeContinue();
  serve(request, response);
});

const control = http.createServer((request, response) => {
  if (request.url === '/close-idle') server.closeIdleConnections();
  response.end(JSON.stringify(seen));
});

server.listen(0, '127.0.0.1', () => control.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port, control: control.address().port }));
}));
process.stdin.on('end', () => process.exit(0)).resume();
