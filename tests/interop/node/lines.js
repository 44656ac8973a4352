// One JSON object per line on standard output, whatever writes; everything else belongs on standard error. Also the one
// way in which a peer reads its commands: a line at a time, until standard input ends.
'use strict';

const readline = require('readline');

// No library may break a line.
console.log = console.error;
console.info = console.error;

exports.print = line => process.stdout.write(JSON.stringify(line) + '\n');

exports.each = (onLine, onEnd) => {
  const input = readline.createInterface({ input: process.stdin });
  input.on('line', line => {
    if (line.trim() !== '') onLine(JSON.parse(line));
  });
  input.on('close', onEnd);
};

// `--key value` pairs; a key without a value counts as true, a number is a number.
exports.argumentsOf = words => {
  const found = {};
  for (let i = 0; i < words.length; i++) {
    if (!words[i].startsWith('--')) throw new Error('unexpected argument ' + words[i]);
    const alone = i + 1 === words.length || words[i + 1].startsWith('--');
    const value = alone ? true : words[++i];
    found[words[alone ? i : i - 1].slice(2).replace(/-/g, '_')] = /^-?[0-9]+$/.test(value) ? Number(value) : value;
  }
  return found;
};

// The libraries want a logger; what they warn about goes to standard error.
exports.logger = { info() {}, debug() {}, warn: console.error, error: console.error };
