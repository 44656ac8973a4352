// A sofa-bolt-node RpcClient under command: one JSON line in, one JSON line out (and event lines between). Without
// arguments it reads commands from standard input until its end; with `--address .. --case ..` it runs that one case and
// exits with 0 or 1.
'use strict';

const Cases = require('./cases');
const lines = require('./lines');
const Session = require('./session');

const kept = new Map();
const running = new Map();

const run = async command => {
  const head = {};
  if ('id' in command) head.id = command.id;
  if ('case' in command) head.case = command.case;
  const start = Date.now();
  let result;
  try {
    result = await dispatch(command, head);
  } catch (error) {
    result = { ok: false, detail: error.name + ': ' + error.message };
  }
  return { ...head, ...result, took_ms: Date.now() - start };
};

const dispatch = async (command, head) => {
  const target = running.get(String(command.target));
  switch (command.case) {
    case 'stop':
      if (target) target.stop();
      return { ok: !!target };
    case 'progress':
      return { ok: !!target, ...(target ? target.progress() : {}) };
    case 'release': {
      const session = kept.get(command.client);
      kept.delete(command.client);
      if (session) session.close();
      return { ok: !!session };
    }
    default:
      return inSession(command, head);
  }
};

const inSession = async (command, head) => {
  const name = command.client;
  const session = kept.get(name) || new Session(command);
  if (name !== undefined) kept.set(name, session);
  const cases = new Cases(command, session, event => lines.print({ ...head, ...event }));
  running.set(String(command.id), cases);
  try {
    return await cases.run();
  } finally {
    running.delete(String(command.id));
    if (name === undefined) session.close();
  }
};

const main = async () => {
  const command = lines.argumentsOf(process.argv.slice(2));
  if (Object.keys(command).length > 0) {
    const answer = await run(command);
    lines.print(answer);
    process.exit(answer.ok ? 0 : 1);
  }
  lines.print({ ready: true, peer: 'node' });
  lines.each(asked => run(asked).then(lines.print), () => process.exit(0));
};

main();
