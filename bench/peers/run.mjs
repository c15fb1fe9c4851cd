#!/usr/bin/env node
// Tandem and llama.cpp on the same model, in turns: A, B, A, B, each turn short, because the machine's
// state changes within minutes. Prints the rows of the engine's targets with ratios.
//
// Usage: bench/peers/run.mjs [--model phi-4-mini|mimo-7b] [--pairs same,own] [--rounds N] [--quick]
//                            [--threads N] [--dir DIR] [--only prefill,decode,start] [--json FILE]
//
// The model has the real one's shapes and random weights (tools/make_model), with the real tokenizer where
// ../shared/data has it. Pairs: "same": both from one Q4_0 file; "own": each side's own 4-bit default, Q4_K_M
// and `tandem pack --scheme int4`. Takes 7 (phi) or 14 GB (mimo) below DIR (default build/bench), kept
// for the next run, and some 20 minutes (--quick: 3) on a quiet machine.
//
// The peer is node-llama-cpp's library (`npm ci --ignore-scripts` here installs it), with its best setting of
// those tried, row by row: flash attention on and off, an f16 and a q8_0 cache; repacking on. llama-bench
// is measured too where it is on PATH. A turn counts only where the machine was the same after it.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LineProcess, coldStart, dropFromCache, say } from './processes.mjs';
import { machineText, median, printRows, printStarts } from './report.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const tandem = process.env.TANDEM_BINARY ?? join(root, 'build/release/tandem');
const makeModel = join(root, 'build/release/tools/make_model/tandem-make-model');
const peer = join(here, 'llama.mjs');

const { values } = parseArgs({ options: {
  model: { type: 'string', default: 'phi-4-mini' }, pairs: { type: 'string', default: 'same,own' },
  rounds: { type: 'string' }, quick: { type: 'boolean' }, threads: { type: 'string', default: '0' },
  dir: { type: 'string', default: join(root, 'build/bench') }, json: { type: 'string' },
  only: { type: 'string', default: 'prefill,decode,start' } } });
const shape = { phi: 'phi-4-mini', mimo: 'mimo-7b' }[values.model] ?? values.model;
const quick = values.quick ?? false;
const rounds = Number(values.rounds ?? (quick ? 3 : 12));
const only = values.only.split(',');

const ROWS = [
  { prefill: 64 }, { prefill: 512, slow: true }, { decode: 8, sequences: 1 }, { decode: 8, sequences: 1, depth: 512, slow: true },
  { decode: 8, sequences: 1, depth: 2048, slow: true }, { decode: 8, sequences: 4 }, { decode: 8, sequences: 8, slow: true },
].filter((row) => only.includes(row.prefill ? 'prefill' : 'decode') && !(quick && row.slow));
const SETTINGS = [{}, { flash: false }, { cache: 'q8_0' }];
const CONTEXT = 2304;
const PROMPT = 'What is the capital of Spain, and why did it become one?';

// ---- models ---------------------------------------------------------------------------------------
function make(path, command, args) {
  if (existsSync(path)) return path;
  say(`making ${basename(path)}`);
  mkdirSync(values.dir, { recursive: true });
  const part = `${path}.part`;
  const made = spawnSync(command, args(part), { stdio: ['ignore', 'ignore', 'inherit'] });
  if (made.status !== 0) {
    rmSync(part, { force: true });
    throw new Error(`${basename(command)} could not make ${path}`);
  }
  execFileSync('mv', [part, path]);
  return path;
}

function gguf(type) {
  const tokenizers = { 'phi-4-mini': 'phi-4-mini.tokenizer.json', 'mimo-7b': 'mimo-7b-sft.tokenizer.json' };
  const tokenizer = join(root, '../shared/data', tokenizers[shape] ?? '');
  return make(join(values.dir, `${shape}-${type}.gguf`), makeModel, (part) => ['--shape', shape, '--type', type,
    ...(existsSync(tokenizer) && statSync(tokenizer).isFile() ? ['--tokenizer', tokenizer] : []), '--out', part]);
}

function pack(model, scheme) {
  return make(model.replace(/\.gguf$/, `-${scheme}.tandem`), tandem, (part) => ['pack', model, '--scheme', scheme, '-o', part]);
}

// { name, tandem: path, peer: path } for each pair that was asked for.
function models() {
  const pairs = [];
  if (values.pairs.includes('same')) {
    const file = gguf('q4_0');
    pairs.push({ name: 'the same Q4_0 file', tandem: pack(file, 'auto'), peer: file });
  }
  if (values.pairs.includes('own')) {
    pairs.push({ name: 'int4 of Tandem, Q4_K_M of llama.cpp', tandem: pack(gguf('q4_0'), 'int4'), peer: gguf('q4_k_m') });
  }
  return pairs;
}

const describe = (path) => JSON.parse(execFileSync(tandem, ['show', path, '--json', '--context', '1024'], { encoding: 'utf8' }));

// ---- steps ----------------------------------------------------------------------------------------
const tokensPerSecond = (row, ms) => 1000 * (row.prefill ?? row.sequences) / median(ms);

// The fastest of the settings for this row, by two turns each.
async function bestSetting(process, row) {
  let best = null;
  for (const setting of quick ? SETTINGS.slice(0, 1) : SETTINGS) {
    const { slow: _, ...command } = row;
    const rates = [];
    for (let i = 0; i < 2; ++i) {
      rates.push(tokensPerSecond(row, (await process.ask({ ...command, ...setting })).ms));
    }
    if (!best || Math.max(...rates) > best.rate) best = { rate: Math.max(...rates), setting };
  }
  return best.setting;
}

async function measureSteps(pair, threads) {
  const ours = new LineProcess(tandem, ['bench', pair.tandem, '--commands', '--context', String(CONTEXT), '--threads', threads]);
  const theirs = new LineProcess(process.execPath, [peer, pair.peer, '--threads', threads]);
  const [about] = [await ours.first, await theirs.first];
  let cpu = (await theirs.ask({ cpu: true })).cpu_s;
  // The state since the last time, the peer's CPU time not counted as others'.
  const machine = async () => {
    const now = (await theirs.ask({ cpu: true })).cpu_s;
    const state = await ours.ask({ machine: true, others_s: now - cpu });
    cpu = now;
    return state;
  };
  const result = [];
  for (const row of ROWS) {
    const { slow: _, ...command } = row;
    say(`${pair.name}: ${JSON.stringify(command)}`);
    const setting = await bestSetting(theirs, row);
    await ours.ask(command);
    await machine();
    const turns = [];
    for (let round = 0; round < rounds; ++round) {
      const turn = {};
      // Whoever comes first has the caches that the other one left.
      for (const side of round % 2 === 0 ? ['tandem', 'peer'] : ['peer', 'tandem']) {
        const { ms } = await (side === 'tandem' ? ours.ask(command) : theirs.ask({ ...command, ...setting }));
        turn[side] = tokensPerSecond(row, ms);
      }
      turns.push({ ...turn, machine: await machine() });
    }
    result.push({ row: command, setting, turns });
  }
  await ours.end();
  await theirs.end();
  return { about, rows: result };
}

// llama-bench's own figures, where there is one: mean tokens a second by "pp512", "tg16".
function llamaBench(path, threads) {
  const run = spawnSync('llama-bench', ['-m', path, '-t', threads, '-p', '64,512', '-n', '16', '-r', quick ? '2' : '5', '-o', 'json'], { encoding: 'utf8' });
  if (run.error || run.status !== 0) return null;
  return JSON.parse(run.stdout).map(({ n_prompt: p, n_gen: n, avg_ts: rate }) => ({ test: p ? `prefill ${p}` : `decode ${n}`, rate }));
}

// ---- starts ---------------------------------------------------------------------------------------
async function measureStarts(pair, threads) {
  const sides = {
    tandem: () => coldStart.tandem(tandem, pair.tandem, threads, PROMPT),
    peer: (tokens) => coldStart.peer(peer, pair.peer, threads, tokens),
  };
  const runs = { warm: [], cold: [] };
  for (const kind of ['warm', 'cold']) {
    for (let round = 0; round < (quick ? 2 : 5); ++round) {
      say(`${pair.name}: start, ${kind} page cache`);
      const run = {};
      for (const side of ['tandem', 'peer']) {
        if (kind === 'cold') dropFromCache(side === 'tandem' ? pair.tandem : pair.peer);
        run[side] = await sides[side](run.tandem?.tokens);
      }
      runs[kind].push(run);
    }
  }
  return runs;
}

// ---- all ------------------------------------------------------------------------------------------
for (const binary of [tandem, makeModel, join(here, 'node_modules/node-llama-cpp')]) {
  if (!existsSync(binary)) {
    say(`${binary} is missing; run ./dev bench peers, which makes it`);
    process.exit(1);
  }
}
const before = JSON.parse(execFileSync(tandem, ['bench', '--json', '--threads', values.threads], { encoding: 'utf8' }));
const threads = String(before.threads);
const output = { shape, rounds, load_average: loadavg()[0], before, pairs: [] };
console.log(`${shape}, ${machineText(before)}, load ${loadavg()[0].toFixed(1)}; ${rounds} rounds\n`);
for (const pair of models()) {
  const steps = ROWS.length > 0 ? await measureSteps(pair, threads) : { rows: [] };
  const about = { tandem: describe(pair.tandem), peer: describe(pair.peer) };
  const starts = only.includes('start') ? await measureStarts(pair, threads) : null;
  const bench = ROWS.length > 0 ? llamaBench(pair.peer, threads) : null;
  const size = ({ bits_per_weight: bits, size_bytes: bytes }) => `${bits.toFixed(2)} bits a weight read, ${(bytes / 1e9).toFixed(2)} GB`;
  console.log(`## ${pair.name}\n\nTandem ${size(about.tandem)}; llama.cpp ${size(about.peer)}; ${threads} threads each\n`);
  printRows(steps.rows, before, about.tandem);
  if (starts) printStarts(starts);
  for (const { test, rate } of bench ?? []) console.log(`llama-bench ${test}: ${rate.toFixed(2)} tokens/s`);
  console.log('');
  output.pairs.push({ name: pair.name, about, steps, starts, llama_bench: bench });
}
output.after = JSON.parse(execFileSync(tandem, ['bench', '--json', '--threads', threads], { encoding: 'utf8' }));
console.log(`after: ${machineText(output.after)}, load ${loadavg()[0].toFixed(1)}`);
if (values.json) writeFileSync(values.json, JSON.stringify(output, null, 1));
