// Packages as a person sees them: made once, kept, checked, removed.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tandem } from './server.mjs';

const demo = join(dirname(fileURLToPath(import.meta.url)), '../../models/demo/tandem-demo-q4_0.gguf');
const question = ['--prompt', 'Do you ship to Singapore?'];
let dir;
before(() => { dir = mkdtempSync(join(tmpdir(), 'tandem-pack-')); });
after(() => { rmSync(dir, { recursive: true, force: true }); });

function call(args, data = dir) {
  const result = spawnSync(tandem, [...args, '--data-dir', data], { encoding: 'utf8' });
  return { code: result.status, out: result.stdout, err: result.stderr };
}
const packages = (data) => readdirSync(join(data, 'packages')).filter((name) => name.endsWith('.tandem'));

test('a model is packed at its first run and never again', () => {
  const data = join(dir, 'once');
  const first = call(['run', demo, ...question], data);
  assert.equal(first.code, 0, first.err);
  const [name] = packages(data);
  const made = statSync(join(data, 'packages', name)).mtimeMs;
  const second = call(['run', demo, ...question], data);
  assert.equal(second.out, first.out);
  assert.deepEqual(packages(data), [name]);
  assert.equal(statSync(join(data, 'packages', name)).mtimeMs, made);
});

test('pack writes a package that run takes, the same bytes with any number of threads', () => {
  const [one, three] = ['one.tandem', 'three.tandem'].map((name) => join(dir, name));
  const packed = call(['pack', demo, '-o', one, '--threads', '1']);
  assert.equal(packed.code, 0, packed.err);
  assert.match(packed.out, /blk\.0\.ffn_gate_up\.weight .* Q4_0 +int4g32 .* exact/);
  assert.match(packed.out, /bits a weight/);
  const json = JSON.parse(call(['pack', demo, '-o', three, '--threads', '3', '--json']).out);
  assert.equal(json.size_bytes, statSync(three).size);
  assert.ok(readFileSync(one).equals(readFileSync(three)));
  assert.equal(call(['run', one, ...question]).out, call(['run', demo, ...question]).out);
});

test('other schemes state what they lose, unknown ones are refused by name', () => {
  const out = join(dir, 'int4.tandem');
  const { tensors, bits_per_weight: bits } = JSON.parse(call(['pack', demo, '-o', out, '--scheme', 'int4', '--json']).out);
  assert.ok(bits < 5.3);
  const down = tensors.find(({ name }) => name === 'blk.0.ffn_down.weight');
  assert.equal(down.type, 'int4g128');
  assert.ok(down.error > 0.01 && down.error < 0.2, `${down.error}`);
  const unknown = call(['pack', demo, '-o', out, '--scheme', 'int3']);
  assert.equal(unknown.code, 1);
  assert.match(unknown.err, /int3.*int4g128/);
});

test('a damaged package is refused, or found by --verify', () => {
  const path = join(dir, 'damaged.tandem');
  call(['pack', demo, '-o', path]);
  assert.equal(call(['pack', '--verify', path]).code, 0);
  const whole = readFileSync(path);
  const changed = Buffer.from(whole);
  changed[Math.floor(whole.length / 3)] ^= 1;
  writeFileSync(path, changed);
  const verified = call(['pack', '--verify', path]);
  assert.equal(verified.code, 1);
  assert.match(verified.err, /digest/);
  writeFileSync(path, whole.subarray(0, whole.length / 2));
  const cut = call(['run', path, ...question]);
  assert.equal(cut.code, 1);
  assert.match(cut.err, /bytes/);
});

test('a model that changed is packed again', () => {
  const data = join(dir, 'rm');
  const model = join(dir, 'copy.gguf');
  copyFileSync(demo, model);
  assert.equal(call(['run', model, ...question], data).code, 0);
  assert.equal(packages(data).length, 1);
  const [old] = packages(data);
  utimesSync(model, 1700000000, 1700000000);
  assert.equal(call(['run', model, ...question], data).code, 0);
  assert.equal(packages(data).length, 1);
  assert.notEqual(packages(data)[0], old);
});

test('a folder of safetensors is a model; what is guessed ahead never shows', () => {
  const models = dirname(demo);
  const shop = ['--system', 'You are the assistant of a shop.\nCatalogue:\n- Amber Kettle: price $24.90, stock 14',
    '--prompt', 'How much is the Amber Kettle?'];
  const answers = ['off', 'auto', 'mtp', 'ngram'].map((mode) => call(['run', 'demo-mtp', ...shop, '--speculation', mode]));
  for (const { code, out, err } of answers) {
    assert.equal(code, 0, err);
    assert.equal(out, answers[0].out);
  }
  assert.match(answers[0].out, /24\.90/);
  const verbose = call(['run', 'demo-mtp', ...shop, '--speculation', 'mtp', '--verbose']).err;
  assert.match(verbose, /drafts .* right/);
  const folder = call(['run', join(models, 'tandem-demo-mtp/'), ...shop]);
  assert.equal(folder.code, 0, folder.err);
  assert.match(folder.out, /24\.90/);
  const { tensors } = JSON.parse(call(['pack', join(models, 'tandem-demo-mtp/'), '-o', join(dir, 'mtp.tandem'), '--json']).out);
  assert.equal(tensors.find(({ name }) => name === 'blk.6.nextn.eh_proj.weight').source, 'BF16');
  const wrong = call(['run', 'demo-mtp', ...shop, '--speculation', 'eagle']);
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /eagle.*auto off mtp ngram/);
});
