#!/usr/bin/env node
// llama.cpp's steps, timed as `tandem bench --commands` times Tandem's: llama_decode() through the
// bindings of node-llama-cpp, without its chat layer, sampling or batching queue.
//
// Usage: llama.mjs MODEL.gguf [--threads N] [--no-mmap]             commands on standard input
//        llama.mjs MODEL.gguf [--threads N] --first-token TOKENS    load, prompt, first token, end
//
// Commands, one line of JSON each, answered by one: {"prefill": 64, "depth": 0}, {"decode": 8,
// "sequences": 4, "depth": 0}, {"cpu": true}; with "flash": false or "cache": "q8_0" for other settings
// than flash attention and an f16 cache. Weights are repacked by the library where it can, its default.
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';

const { values, positionals: [path] } = parseArgs({ allowPositionals: true, options: {
  threads: { type: 'string', default: '0' }, 'no-mmap': { type: 'boolean' }, 'first-token': { type: 'string' },
  context: { type: 'string', default: '4096' } } });

const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.error });
const bindings = llama._bindings;
const threads = Number(values.threads) || llama.cpuMathCores;
const started = performance.now();
const model = new bindings.AddonModel(path, { addonExports: bindings, gpuLayers: 0, useMmap: !values['no-mmap'] });
if (!await model.init()) throw new Error(`llama.cpp cannot load ${path}`);
const loadMs = performance.now() - started;

// The library pads each sequence's share of the context to this.
const PAD = 256;
const BATCH = 512;
const contexts = new Map();

async function makeContext(sequences, tokens, { flash = true, cache = 'f16' }) {
  const type = bindings.getGgmlType(cache);
  const context = new bindings.AddonContext(model, {
    contextSize: sequences * Math.ceil(tokens / PAD) * PAD, batchSize: Math.max(BATCH, sequences), sequences, threads,
    flashAttention: flash, kvCacheKeyType: type, kvCacheValueType: flash ? type : bindings.getGgmlType('f16') });
  if (!await context.init()) throw new Error('llama.cpp cannot make that context');
  return { context, lengths: new Array(sequences).fill(0) };
}

// One context for each setting and number of sequences, kept, so that a long past is computed once.
async function contextFor(sequences, tokens, settings) {
  const name = JSON.stringify([sequences, settings.flash, settings.cache]);
  const held = contexts.get(name);
  if (held && held.tokens >= tokens) return held;
  await held?.context.dispose();
  const made = { ...await makeContext(sequences, tokens, settings), tokens };
  contexts.set(name, made);
  return made;
}

// Any spread over the vocabulary does.
const vocabulary = Math.min(100000, countTokens());
function countTokens() {
  let n = 1;
  while (n < 100000) {
    try {
      if (model.getTokenString(n - 1) === undefined) break;
    } catch { break; }
    n *= 2;
  }
  return Math.max(2, n / 2);
}
const tokenAt = (sequence, position) => (sequence * 1009 + position * 7919 + 11) % vocabulary;

// Takes each [sequence, tokens] on, with logits after the last token of each where they are wanted.
async function step(held, work, wanted) {
  held.context.initBatch(work.reduce((sum, [, n]) => sum + n, 0));
  for (const [sequence, n] of work) {
    const at = held.lengths[sequence];
    const ids = Uint32Array.from({ length: n }, (_, i) => tokenAt(sequence, at + i));
    held.context.addToBatch(sequence, at, ids, wanted ? Uint32Array.of(n - 1) : new Uint32Array());
    held.lengths[sequence] += n;
  }
  await held.context.decodeBatch();
}

async function append(held, sequence, tokens, wanted) {
  for (let done = 0; done < tokens; done += BATCH) {
    const n = Math.min(BATCH, tokens - done);
    await step(held, [[sequence, n]], wanted && done + n === tokens);
  }
}

async function fill(held, sequence, depth) {
  if (held.lengths[sequence] > depth) {
    held.context.removeTokenCellsFromSequence(sequence, depth, held.lengths[sequence]);
    held.lengths[sequence] = depth;
  }
  await append(held, sequence, depth - held.lengths[sequence], false);
}

async function prefill({ prefill: tokens, depth = 0, ...settings }) {
  const held = await contextFor(1, depth + tokens, settings);
  await fill(held, 0, depth);
  const begin = performance.now();
  await append(held, 0, tokens, true);
  return [performance.now() - begin];
}

async function decode({ decode: steps, sequences = 1, depth = 0, ...settings }) {
  const held = await contextFor(sequences, depth + steps, settings);
  for (let i = 0; i < sequences; ++i) await fill(held, i, depth);
  const work = held.lengths.map((_, sequence) => [sequence, 1]);
  const ms = [];
  for (let i = 0; i < steps; ++i) {
    const begin = performance.now();
    await step(held, work, true);
    ms.push(performance.now() - begin);
  }
  return ms;
}

const status = (name) => Number(readFileSync('/proc/self/status', 'utf8').match(new RegExp(`${name}:\\s+(\\d+)`))[1]) * 1024;
const cpuSeconds = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6; };
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

if (values['first-token']) {
  const held = await contextFor(1, Number(values.context), {});
  await append(held, 0, Number(values['first-token']), true);
  // From the start of loading: node's own start is not the library's.
  const ms = performance.now() - started;
  await decode({ decode: 8, depth: held.lengths[0] });
  say({ ms, load_ms: loadMs, peak_bytes: status('VmHWM'), anonymous_bytes: status('RssAnon'), file_bytes: status('RssFile') });
} else {
  say({ load_ms: loadMs, threads, system: bindings.systemInfo() });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      const command = JSON.parse(line);
      if (command.cpu) say({ cpu_s: cpuSeconds() });
      else say({ ms: await (command.prefill ? prefill(command) : decode(command)) });
    } catch (error) {
      say({ error: error.message });
    }
  }
}
process.exit(0);
