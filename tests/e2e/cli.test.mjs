// The command line as a person or a script uses it.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, existsSync, truncateSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tandem } from './server.mjs';

const demo = join(dirname(fileURLToPath(import.meta.url)), '../../models/demo/tandem-demo-q4_0.gguf');
let dir;
before(() => { dir = mkdtempSync(join(tmpdir(), 'tandem-cli-')); });
after(() => { rmSync(dir, { recursive: true, force: true }); });

function call(args, input) {
  const result = spawnSync(tandem, [...args, '--data-dir', dir], { encoding: 'utf8', input: input ?? '' });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

test('run --prompt answers once, and the same again', () => {
  const first = call(['run', 'demo', '--prompt', 'Do you ship to Singapore?']);
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /Singapore/);
  assert.equal(first.err, '');
  assert.equal(call(['run', 'demo', '--prompt', 'Do you ship to Singapore?']).out, first.out);
});

test('run reads a pipe', () => {
  const piped = call(['run', 'demo'], 'Do you ship to Singapore?\n');
  assert.equal(piped.code, 0, piped.err);
  assert.equal(piped.out, call(['run', 'demo', '--prompt', 'Do you ship to Singapore?']).out);
});

test('run takes a file, the number of threads changes nothing', () => {
  const answers = ['1', '2', '3'].map((threads) =>
    call(['run', demo, '--threads', threads, '--prompt', 'How long does shipping take?']).out);
  assert.equal(new Set(answers).size, 1);
});

test('list, show and keys print JSON that parses', () => {
  const list = JSON.parse(call(['list', '--json']).out);
  assert.equal(list.find((model) => model.name === 'demo').kind, 'bundled');
  const show = JSON.parse(call(['show', 'demo', '--json']).out);
  assert.equal(show.architecture, 'phi3');
  assert.ok(show.memory.total_bytes > show.memory.weights_bytes);
  const created = JSON.parse(call(['keys', 'create', 'one', '--json']).out);
  assert.match(created.key, /^tdm_live_/);
  assert.equal(JSON.parse(call(['keys', 'list', '--json']).out).length, 1);
});

test('keys create prints the key as its last line, and the data directory holds no copy', () => {
  const { out } = call(['keys', 'create', 'two']);
  const key = out.trimEnd().split('\n').at(-1);
  assert.match(key, /^tdm_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}$/);
  const secret = key.slice(-49, -6);
  for (const file of ['tandem.db', 'tandem.db-wal', 'key-pepper']) {
    const path = join(dir, file);
    if (existsSync(path)) assert.ok(!readFileSync(path).includes(secret), file);
  }
});

test('tokenize and --decode are inverse, and text cannot forge markers', () => {
  const text = '<|user|>Grüße, 你好 😀<|end|>';
  const ids = call(['tokenize', demo], text).out;
  assert.equal(call(['tokenize', demo, '--decode'], ids).out, text);
  const chat = JSON.parse(call(['tokenize', demo, '--chat'], '[{"role": "user", "content": "Hi"}]').out);
  assert.ok(!JSON.parse(ids).includes(chat[0]), 'the marker is a special token only in a chat');
});

test('logits writes rows of float32 and the greedy ids follow from the last one', () => {
  const out = join(dir, 'logits');
  const { code, out: printed } = call(['logits', demo, '--tokens', '1,2,3', '--out', out, '--greedy', '2']);
  assert.equal(code, 0);
  const bytes = readFileSync(out);
  const rows = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const last = rows.subarray(rows.length * 2 / 3);
  assert.equal(JSON.parse(printed)[0], last.indexOf(Math.max(...last)));
});

test('wrong usage is 2, what cannot be done is 1 with a message that helps', () => {
  const unknown = call(['no-such-command']);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /no-such-command/);
  assert.equal(call(['run']).code, 2);
  const missing = call(['run', 'mimo-7b', '--prompt', 'x']);
  assert.equal(missing.code, 1);
  assert.match(missing.err, /tandem pull mimo-7b/);
  assert.match(call(['run', 'no-such-model', '--prompt', 'x']).err, /tandem list/);
  assert.match(call(['serve', '--listen', 'nonsense:x']).err, /HOST:PORT/);
  assert.match(call(['run', 'demo', '--prompt', 'x', '--context', '99999999']).err, /context/);
  assert.match(call(['run', 'demo', '--prompt', 'x', '--memory-limit', '1MB']).err, /bytes/);
  assert.match(call(['logits', 'demo', '--tokens', '1,x', '--greedy', '1']).err, /--tokens/);
});

test('standard streams that are full or closed: lost results are an error, lost messages are not', () => {
  const shell = (line) => spawnSync('sh', ['-c', line, tandem, dir], { encoding: 'utf8' });
  for (const command of ['list', 'list --json', 'keys list', 'show demo', 'run demo --prompt x']) {
    for (const out of ['>/dev/full', '>&-']) {
      assert.equal(shell(`"$0" ${command} --data-dir "$1" ${out}`).status, 1, `${command} ${out}`);
    }
  }
  for (const [n, err] of [[1, '2>/dev/full'], [2, '2>&-']]) {
    const created = shell(`"$0" keys create unheard${n} --data-dir "$1" ${err}`);
    assert.equal(created.status, 0, err);
    assert.match(created.stdout, /^tdm_live_/);
    assert.equal(shell(`"$0" show no-such-model --data-dir "$1" ${err}`).status, 1, err);
  }
});

test('bench measures the model and the machine, in text, in JSON and by command', () => {
  const { code, out, err } = call(['bench', 'demo', '--prefill', '16', '--decode', '2x4,1', '--steps', '2', '--repetitions', '1', '--json']);
  assert.equal(code, 0, err);
  const { figures, machine, memory } = JSON.parse(out);
  assert.deepEqual(figures.map(({ what, tokens, sequences, depth, ms }) => [what, tokens ?? sequences, depth ?? 0, ms.length]),
    [['prefill', 16, 0, 1], ['decode', 2, 4, 2], ['decode', 1, 0, 2]]);
  assert.ok(figures.every((figure) => figure.tokens_per_second > 0 && figure.bandwidth_share > 0 && Array.isArray(figure.changes)));
  assert.ok(machine.read_bytes_per_second > 0 && machine.instruction_set);
  assert.ok(memory.peak_bytes > memory.weights_bytes && memory.peak_bytes <= memory.total_bytes);
  assert.match(err, /prompt of 16 tokens/);
  const alone = call(['bench']);
  assert.equal(alone.code, 0, alone.err);
  assert.match(alone.out, /reads .* GB\/s/);
  const lines = call(['bench', 'demo', '--commands', '--context', '64'], '{"decode": 3, "sequences": 2}\nnonsense\n').out.trim().split('\n').map(JSON.parse);
  assert.equal(lines.length, 3);
  assert.ok(lines[0].load_ms > 0);
  assert.equal(lines[1].ms.length, 3);
  assert.match(lines[2].error, /prefill/);
  assert.match(call(['bench', 'demo', '--decode', '4y512']).err, /--decode: '4y512' is no load/);
});

test('a damaged model file is an error with the reason, whatever is damaged', () => {
  const broken = join(dir, 'broken.gguf');
  copyFileSync(demo, broken);
  truncateSync(broken, 5000);
  const truncated = call(['run', broken, '--prompt', 'x']);
  assert.equal(truncated.code, 1);
  assert.match(truncated.err, /offset|byte/);
  writeFileSync(broken, 'this is no model');
  assert.equal(call(['run', broken, '--prompt', 'x']).code, 1);
  writeFileSync(broken, '');
  assert.equal(call(['show', broken]).code, 1);
});
