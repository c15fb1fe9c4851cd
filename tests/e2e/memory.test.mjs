// The memory plan is kept, by the process's own account of its peak, and the limit is obeyed.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tandem } from './server.mjs';

const demo = join(dirname(fileURLToPath(import.meta.url)), '../../models/demo/tandem-demo-q4_0.gguf');
const makeModel = join(dirname(tandem), 'tools/make_model/tandem-make-model');
let dir;
let mid;
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'tandem-memory-'));
  mid = join(dir, 'mid.gguf');
  // Random weights of 127 M parameters; without a tokenizer each byte is a token.
  const made = spawnSync(makeModel, ['--shape', 'mid-phi3', '--type', 'q4_0', '--out', mid], { encoding: 'utf8' });
  assert.equal(made.status, 0, made.stderr);
});
after(() => { rmSync(dir, { recursive: true, force: true }); });

function call(args, input) {
  const result = spawnSync(tandem, [...args, '--data-dir', dir], { encoding: 'utf8', input });
  return { code: result.status, out: result.stdout, err: result.stderr };
}
const plan = (model, ...options) => JSON.parse(call(['show', model, '--json', '--threads', '2', ...options]).out).memory;
// The peak of a process that answers a prompt of so many bytes; the first run has packed the model.
function peak(model, bytes, ...options) {
  const run = () => call(['run', model, '--verbose', '--max-tokens', '32', '--threads', '2', ...options], 'x'.repeat(bytes));
  run();
  const { code, err } = run();
  assert.equal(code, 0, err);
  const [, tokens] = /(\d+) prompt tokens/.exec(err);
  const [, resident] = /peak memory .*\((\d+) bytes\)/.exec(err);
  return { tokens: Number(tokens), bytes: Number(resident), err };
}

test('the demo model keeps to its plan', () => {
  const memory = plan(demo, '--context', '512');
  assert.equal(memory.total_bytes, memory.weights_bytes + memory.kv_cache_bytes + memory.scratch_bytes + memory.reserve_bytes);
  const { bytes } = peak(demo, 100, '--context', '512');
  assert.ok(bytes > memory.weights_bytes && bytes <= memory.total_bytes, `${bytes} of ${memory.total_bytes}`);
});

test('a full context of a larger model is within the plan, and the plan is not much above it', () => {
  const memory = plan(mid, '--context', '1024');
  const { bytes, tokens } = peak(mid, 950, '--context', '1024');
  assert.ok(tokens >= 950, `${tokens}`);
  assert.ok(bytes <= memory.total_bytes, `${bytes} of ${memory.total_bytes}`);
  // What was planned was used, but for the reserve and scratch of sessions that did not run.
  const used = memory.weights_bytes + 0.9 * memory.kv_cache_bytes;
  assert.ok(bytes >= used, `${bytes} of ${used}`);
});

test('below a limit the context is shortened, said so, and the limit kept', () => {
  const full = plan(mid);
  const limit = full.total_bytes - Math.floor(full.kv_cache_bytes / 2);
  const options = ['--memory-limit', String(limit)];
  const shorter = plan(mid, ...options);
  assert.ok(shorter.fits && shorter.total_bytes <= limit);
  assert.equal(shorter.full_context_tokens, full.context_tokens);
  assert.ok(shorter.context_tokens < full.context_tokens && shorter.context_tokens >= full.context_tokens / 2 - 256);
  const { bytes, err } = peak(mid, shorter.context_tokens - 100, ...options);
  assert.ok(bytes <= limit, `${bytes} of ${limit}`);
  assert.match(err, new RegExp(`a context of ${shorter.context_tokens} tokens, not of ${full.context_tokens}`));
});

test('a context that was asked for and does not fit is refused, with the one that would', () => {
  const asked = plan(mid, '--context', '2048');
  const limit = asked.total_bytes - 1;
  const { code, err } = call(['run', mid, '--context', '2048', '--threads', '2', '--memory-limit', String(limit)], 'x');
  assert.equal(code, 1);
  assert.match(err, new RegExp(`needs ${asked.total_bytes} bytes .* ${limit} bytes are available`));
  const [, offered] = /a context of (\d+) tokens would fit/.exec(err);
  const { bytes } = peak(mid, Number(offered) - 100, '--context', offered, '--memory-limit', String(limit));
  assert.ok(bytes <= limit, `${bytes} of ${limit}`);
});

test('where nothing fits it is refused with the figures', () => {
  const { code, err } = call(['run', mid, '--memory-limit', '64MB'], 'x');
  assert.equal(code, 1);
  assert.match(err, /needs \d+ bytes \(weights \d+, scratch \d+, one KV cache of 256 tokens \d+.*64000000 bytes are available.*raise the limit/);
  assert.equal(plan(mid, '--memory-limit', '64MB').fits, false);
});
