// The wire contract's calls about devices, and the commands that answer the same before anything is
// downloaded. docs/contract-tests.md says which test shows which row.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, tandem } from './server.mjs';

let server, dir;
before(async () => {
  server = await Server.start();
  dir = mkdtempSync(join(tmpdir(), 'tandem-devices-'));
});
after(async () => {
  await server?.stop();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

const check = { model: 'phi-4-mini', device_platform: 'android', npu_model: 'snapdragon_8_gen3', ram_gb: 8 };
const npu = { model_id: 'phi-4-mini', npu_vendor: 'qualcomm', npu_driver_version: 'v2.23.0', soc_model: 'sm8650' };
const ask = (call, body) => server.fetch(`/v1/models/${call}`, { body });
async function answer(call, body) {
  const response = await ask(call, body);
  const json = await response.json();
  assert.equal(response.status, 200, JSON.stringify(json));
  return json;
}

function call(args, { fails = false } = {}) {
  const result = spawnSync(tandem, [...args, '--data-dir', dir], { encoding: 'utf8' });
  assert.equal(result.status, fails ? 1 : 0, `${args.join(' ')}: ${result.stderr}`);
  return fails ? result.stderr : result.stdout;
}

// ---- POST /v1/models/compatibility-check ------------------------------------------------------------

test('compatibility-check: the fields that clients read', async () => {
  const fits = await answer('compatibility-check', check);
  assert.equal(fits.compatible, true);
  assert.equal(fits.model, 'phi-4-mini');
  assert.equal(fits.variant, 'int4');
  assert.equal(fits.requirements.min_ram_gb, 4);
  assert.ok(fits.requirements.platforms.includes('android_arm64'));
  assert.equal(fits.requirements.accelerator, 'cpu');
  assert.deepEqual(fits.requirements.unmet, []);
  assert.ok(fits.requirements.package_bytes <= 2.4e9, 'the package is at most 2.4 GB');
  const rate = fits.expected_tokens_per_second;
  assert.ok(rate.low < rate.expected && rate.expected < rate.high, JSON.stringify(rate));
  assert.match(rate.how, /76\.8 GB\/s/);
  assert.equal(fits.deployable, false, 'nobody certified it');
  assert.match(fits.deployment_note, /no certificate/);
});

test('compatibility-check: a device that cannot run it is an answer with reasons', async () => {
  for (const [body, reason] of [
    [{ ...check, model: 'mimo-7b-int4', ram_gb: 4 }, /6 GB of memory have to be free/],
    [{ ...check, ram_gb: 3 }, /4 GB of memory have to be free/],
    [{ ...check, device_platform: 'ios' }, /runs on .*android_arm64.*not on 'ios'/],
    [{ ...check, context_tokens: 1000000 }, /was made for 131072/],
    [{ ...check, model: 'deepseek-v3.2' }, /answered in the cloud/],
  ]) {
    const refused = await answer('compatibility-check', body);
    assert.equal(refused.compatible, false);
    assert.match(refused.requirements.unmet.join('\n'), reason);
  }
  const mimo = await answer('compatibility-check', { ...check, model: 'mimo-7b-int4', ram_gb: 6 });
  assert.equal(mimo.compatible, true);
  assert.equal(mimo.requirements.min_ram_gb, 6);
  assert.ok(mimo.requirements.package_bytes <= 4.2e9);
});

test('compatibility-check: an SoC that nobody knows is said to be unknown, and so is the rate', async () => {
  const unknown = await answer('compatibility-check', { ...check, npu_model: 'snapdragon_8_gen4' });
  assert.equal(unknown.expected_tokens_per_second, null);
  assert.match(unknown.notes.join('\n'), /'snapdragon_8_gen4' is unknown; did you mean/);
});

test('compatibility-check and npu-compatibility take model and model_id', async () => {
  for (const field of ['model', 'model_id']) {
    for (const id of ['phi-4-mini', 'phi-4-mini-int4']) {
      const { model, ...rest } = check;
      assert.equal((await answer('compatibility-check', { ...rest, [field]: id })).model, model);
      const { model_id: _, ...others } = npu;
      assert.equal((await answer('npu-compatibility', { ...others, [field]: id })).compatible, true);
    }
  }
});

// ---- POST /v1/models/npu-compatibility --------------------------------------------------------------

test('npu-compatibility: compatible, reason and fallback', async () => {
  const good = await answer('npu-compatibility', npu);
  assert.deepEqual([good.compatible, good.fallback], [true, 'cpu']);
  assert.match(good.reason, /Hexagon V75/);
  for (const [change, reason, fallback] of [
    // The contract's own example: 2.7 is older than 2.23.
    [{ npu_driver_version: 'v2.7.1' }, /driver 2\.7\.1 is older than QNN SDK 2\.23/, 'cpu'],
    [{ npu_vendor: 'mediatek' }, /made by qualcomm/, 'cpu'],
    [{ soc_model: 'sm8450' }, /one scale a row/, 'cpu'],
    [{ soc_model: 'sm9999' }, /'sm9999' is unknown/, 'cpu'],
    [{ soc_model: 'gen 3' }, /can be any of/, 'cpu'],
    [{ model_id: 'deepseek-v3.2' }, /cloud/, 'cloud'],
  ]) {
    const refused = await answer('npu-compatibility', { ...npu, ...change });
    assert.deepEqual([refused.compatible, refused.fallback], [false, fallback], refused.reason);
    assert.match(refused.reason, reason);
  }
});

// ---- Errors of both ---------------------------------------------------------------------------------

test('an unknown model is 404 model_not_found; a missing or mistyped field is 400 with param', async () => {
  for (const [path, body] of [['compatibility-check', check], ['npu-compatibility', npu]]) {
    const unknown = await ask(path, { ...body, model: 'gpt-5', model_id: 'gpt-5' });
    assert.equal(unknown.status, 404);
    assert.equal((await unknown.json()).error.code, 'model_not_found');
    for (const field of Object.keys(body)) {
      const { [field]: _, ...without } = body;
      const missing = await ask(path, without);
      assert.equal(missing.status, 400, field);
      const { error } = await missing.json();
      assert.equal(error.param, field === 'model_id' ? 'model' : field);
      assert.equal(error.type, 'invalid_request_error');
      const mistyped = await ask(path, { ...body, [field]: field === 'ram_gb' ? '8' : 8 });
      assert.equal(mistyped.status, 400, field);
      assert.equal((await mistyped.json()).error.param, field);
    }
    assert.equal((await ask(path, 'no JSON')).status, 400);
    assert.equal((await server.fetch(`/v1/models/${path}`, { body, key: 'tdm_wrong' })).status, 401);
    assert.equal((await server.fetch(`/v1/models/${path}`)).status, 405);
  }
  const version = await ask('npu-compatibility', { ...npu, npu_driver_version: 'newest' });
  assert.equal(version.status, 400);
  assert.equal((await version.json()).error.param, 'npu_driver_version');
});

// ---- GET /v1/device/memory-status -------------------------------------------------------------------

test('memory-status: figures that go together', async () => {
  const before = await (await server.fetch('/v1/device/memory-status')).json();
  for (const field of ['available_mb', 'total_mb', 'limit_mb', 'weights_mb', 'kv_cache_mb']) {
    assert.equal(typeof before[field], 'number', field);
  }
  assert.ok(before.available_mb > 0 && before.available_mb <= before.total_mb);
  assert.ok(before.limit_mb <= before.total_mb);
  const chat = await server.fetch('/v1/chat/completions',
    { body: { model: 'demo', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 } });
  assert.equal(chat.status, 200);
  const after = await (await server.fetch('/v1/device/memory-status')).json();
  assert.ok(after.weights_mb > before.weights_mb, 'a loaded model has weights');
});

// ---- The command line -------------------------------------------------------------------------------

test('plan: the verdict on every variant, for another device and for this one', () => {
  const plan = JSON.parse(call(['plan', '--device', 'Snapdragon 8 Gen 3', '--model', 'phi-4-mini',
    '--ram', '8', '--npu-driver', 'v2.7.1', '--json']));
  assert.equal(plan.compatible, true);
  assert.equal(plan.variant, 'int4');
  assert.equal(plan.device.soc.part, 'SM8650');
  const [cpu, onNpu] = plan.variants;
  assert.equal(cpu.fits, true);
  assert.equal(cpu.memory.min_ram_gb, 4);
  assert.equal(onNpu.fits, false);
  assert.match(onNpu.unmet.join(), /2\.7\.1 is older/);
  const text = call(['plan', '--device', 'sm8650', '--model', 'mimo-7b', '--ram', '4']);
  assert.match(text, /not compatible/);
  assert.match(text, /int4 \(cpu\): rejected/);
  assert.match(call(['plan', '--model', 'demo']), /compatible: int4/);
  assert.match(call(['plan', '--device', 'gen 3', '--model', 'demo'], { fails: true }), /can be any of/);
  assert.match(call(['plan', '--model', 'gpt-5'], { fails: true }), /phi-4-mini, mimo-7b/);
});

test('doctor: what this device is, as text and JSON', () => {
  const report = JSON.parse(call(['doctor', '--json']));
  assert.ok(report.memory.available_bytes > 0);
  assert.ok(report.cpu.usable_cores > 0);
  assert.ok(report.cpu.instruction_set);
  assert.ok(report.free_disk_bytes > 0);
  assert.equal(report.models.find((model) => model.name === 'demo').certified, true);
  assert.match(call(['doctor']), /^kernels +\w+$/m);
});

test('catalogue: what is shipped', () => {
  const models = JSON.parse(call(['catalogue', 'list', '--json']));
  assert.deepEqual(models.map((model) => model.name), ['phi-4-mini', 'mimo-7b', 'deepseek-v3.2', 'demo', 'demo-mtp']);
  assert.equal(models[0].sources[0].hub, 'bartowski/microsoft_Phi-4-mini-instruct-GGUF');
  assert.equal(models[2].origin, 'cloud');
  const demo = JSON.parse(call(['catalogue', 'show', 'demo', '--json']));
  assert.equal(demo.variants[0].deployable, true);
  assert.match(call(['catalogue', 'list']), /phi-4-mini +int4-npu +npu/);
  assert.match(call(['catalogue', 'show', 'phi-4-mini-int4']), /no certificate/);
});

test('catalogue: draft, sign, trust, add, rotate; what was tampered with is refused', () => {
  const at = (name) => join(dir, name);
  writeFileSync(at('phi.tandem'), 'the weights');
  call(['catalogue', 'draft', at('phi.tandem'), '--model', 'phi-4-mini', '--variant', 'int4', '-o', at('m.json')]);
  assert.match(call(['catalogue', 'add', at('m.json')], { fails: true }), /not signed/);
  writeFileSync(at('a.pub'), call(['catalogue', 'keygen', at('a.pem')]));
  call(['catalogue', 'sign', at('m.json'), '--key', at('a.pem')]);
  assert.match(call(['catalogue', 'add', at('m.json')], { fails: true }), /not in the trust store/);
  call(['catalogue', 'trust', 'add', at('a.pub'), '--name', 'release']);

  const good = readFileSync(at('m.json'), 'utf8');
  writeFileSync(at('bad.json'), good.replace('"size_bytes":11', '"size_bytes":12'));
  assert.match(call(['catalogue', 'add', at('bad.json')], { fails: true }), /something in it was changed/);
  assert.match(call(['catalogue', 'add', at('bad.json'), '--allow-unsigned'], { fails: true }), /changed/);

  const added = JSON.parse(call(['catalogue', 'add', at('m.json'), '--json']));
  assert.equal(added.signed_by.name, 'release');
  const phi = JSON.parse(call(['catalogue', 'show', 'phi-4-mini', '--json']));
  const int4 = phi.variants.find((variant) => variant.name === 'int4');
  assert.equal(int4.manifest_digest, added.manifest_digest);
  assert.equal(int4.size_bytes, 11);

  call(['catalogue', 'keygen', at('b.pem')]);
  call(['catalogue', 'trust', 'rotate', '--old-key', at('a.pem'), '--new-key', at('b.pem'), '--name', 'next',
    '--overlap', '30d', '-o', at('rotation.json')]);
  call(['catalogue', 'trust', 'accept', at('rotation.json')]);
  const keys = JSON.parse(call(['catalogue', 'trust', 'list', '--json']));
  assert.deepEqual(keys.map((key) => [key.name, key.trusted, key.not_after !== null]),
    [['release', true, true], ['next', true, false]]);
  call(['catalogue', 'trust', 'retire', keys[0].id.slice(0, 12)]);
  assert.match(call(['catalogue', 'add', at('m.json')], { fails: true }), /not trusted any more/);
});
