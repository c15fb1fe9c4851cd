// The wire contract's deployment calls against a server whose accelerator is the tests' faulty driver.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server, tandem } from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const driver = join(root, 'build/release/src/engine/executor/libtandem_faulty_driver.so');
// The cores compute with the scalar kernels, so that the driver, which takes the best, is faster.
const slowCores = { TANDEM_ISA: 'scalar' };
let dir;
before(() => { dir = mkdtempSync(join(tmpdir(), 'tandem-deploy-')); });
after(() => { rmSync(dir, { recursive: true, force: true }); });

async function serve(name, { fault = '', drivers = true, env = {} } = {}) {
  const dataDir = join(dir, name);
  mkdirSync(join(dataDir, 'drivers'), { recursive: true });
  if (drivers) copyFileSync(driver, join(dataDir, 'drivers', 'npu.so'));
  const state = join(dataDir, 'driver-state');
  const server = await Server.start(
    [], { ...slowCores, TANDEM_FAULTY_DRIVER: fault, TANDEM_FAULTY_DRIVER_STATE: state, ...env }, { dataDir });
  const post = async (path, body) => {
    const response = await server.fetch(path, { body });
    return { status: response.status, body: await response.json() };
  };
  const answer = async () => {
    const { status, body } = await post('/v1/chat/completions', {
      model: 'demo', temperature: 0, max_tokens: 24,
      messages: [{ role: 'user', content: 'Do you ship to Singapore?' }],
    });
    assert.equal(status, 200, JSON.stringify(body));
    return body.choices[0].message.content;
  };
  return Object.assign(server, { post, answer });
}
const order = {
  model_id: 'demo', npu_enabled: true, memory_limit_mb: 3800,
  device_config: { npu_vendor: 'qualcomm', driver_version: 'v2.7.1', soc: 'sm8650', device_id: 'phone-1' },
};

test('a good accelerator serves, and answers as the cores do', async () => {
  const server = await serve('good');
  try {
    const onCores = await server.answer();
    const { status, body } = await server.post('/v1/models/deploy', order);
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.status, 'deployed');
    assert.match(body.deployment_id, /^dep-[0-9a-f]{16}$/);
    assert.equal(body.model_id, 'demo');
    assert.equal(body.executor, 'npu', body.reason);
    assert.equal(body.software_fallback, false);
    assert.equal(body.attempts, 1);
    assert.ok(body.batch_size >= 1 && body.memory_mb > 1);
    assert.equal(await server.answer(), onCores);
    const inUse = readdirSync(join(server.dataDir, 'executors')).filter((name) => name.startsWith('use-'));
    assert.equal(inUse.length, 1, 'it is the accelerator that served');
    const reset = await server.post('/v1/models/npu-reset', { device_id: 'phone-1' });
    assert.equal(reset.status, 200, JSON.stringify(reset.body));
    assert.equal(reset.body.status, 'reset');
    assert.equal(reset.body.device_id, 'phone-1');
  } finally {
    await server.stop();
  }
});

test('an accelerator that cannot create a context: reset, three attempts, then the cores', async () => {
  const server = await serve('broken', { fault: 'create_fails' });
  try {
    const { status, body } = await server.post('/v1/models/deploy', order);
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.executor, 'cpu');
    assert.equal(body.software_fallback, true);
    assert.equal(body.attempts, 3);
    assert.equal(body.batch_size, 4);
    assert.match(body.reason, /QNN_CONTEXT_ERROR_CREATE_FROM_BINARY/);
    assert.ok(await server.answer());

    const refused = await server.post('/v1/models/deploy', { ...order, allow_software_fallback: false });
    assert.equal(refused.status, 503);
    assert.equal(refused.body.error.code, 'NPU_CONTEXT_CREATE_FAILED');
    assert.match(refused.body.error.message, /demo.*QNN_CONTEXT_ERROR_CREATE_FROM_BINARY/);
  } finally {
    await server.stop();
  }
});

test('no accelerator, too little memory, unknown models and wrong fields say so', async () => {
  const server = await serve('none', { drivers: false });
  try {
    const alone = await server.post('/v1/models/deploy', order);
    assert.equal(alone.body.executor, 'cpu');
    assert.match(alone.body.reason, /no driver/);
    const small = await server.post('/v1/models/deploy', { ...order, memory_limit_mb: 1 });
    assert.equal(small.status, 503);
    assert.equal(small.body.error.code, 'OUT_OF_MEMORY');
    assert.match(small.body.error.message, /wants \d+ bytes.*1048576 are available/);
    const unknown = await server.post('/v1/models/deploy', { model_id: 'gpt-99' });
    assert.equal(unknown.status, 404);
    assert.equal(unknown.body.error.code, 'model_not_found');
    for (const [body, param] of [[{}, 'model_id'], [{ model_id: 'demo', npu_enabled: 'yes' }, 'npu_enabled'],
      [{ model_id: 'demo', memory_limit_mb: -1 }, 'memory_limit_mb']]) {
      const wrong = await server.post('/v1/models/deploy', body);
      assert.equal(wrong.status, 400);
      assert.equal(wrong.body.error.param, param);
    }
    const nowhere = await server.post('/v1/models/npu-reset', {});
    assert.equal(nowhere.status, 400);
    assert.equal(nowhere.body.error.param, 'device_id');
  } finally {
    await server.stop();
  }
});

test('a process that is killed while an accelerator serves does not try it again', async () => {
  const first = await serve('killed');
  const { body } = await first.post('/v1/models/deploy', order);
  assert.equal(body.executor, 'npu', body.reason);
  const before = await first.answer();
  await first.kill();
  const second = await serve('killed');
  try {
    assert.equal(await second.answer(), before, 'the cores answer');
    const { verdicts } = JSON.parse(readFileSync(join(second.dataDir, 'executors', 'verdicts.json'), 'utf8'));
    assert.equal(verdicts[0].finding, 'killed_the_process');
    const again = await second.post('/v1/models/deploy', order);
    assert.equal(again.body.executor, 'cpu');
    assert.match(again.body.reason, /killed_the_process/);
    await second.post('/v1/models/npu-reset', { device_id: 'phone-1' });
    const after = await second.post('/v1/models/deploy', order);
    assert.equal(after.body.executor, 'npu', after.body.reason);
  } finally {
    await second.stop();
  }
});

test('the command line deploys and rolls back beside a running server', async () => {
  const server = await serve('cli');
  const call = (...args) => {
    const result = spawnSync(tandem, [...args, '--data-dir', server.dataDir, '--json'], {
      encoding: 'utf8', env: { ...process.env, ...slowCores, TANDEM_FAULTY_DRIVER: '' },
    });
    assert.equal(result.status, 0, result.stderr);
    return JSON.parse(result.stdout);
  };
  try {
    const cores = call('deploy', 'demo');
    assert.equal(cores.executor, 'cpu');
    const npu = call('deploy', 'demo', '--accelerator');
    assert.equal(npu.executor, 'npu', npu.reason);
    assert.ok(await server.answer());
    const back = call('rollback', 'demo');
    assert.equal(back.deployment_id, cores.deployment_id);
    assert.ok(await server.answer());
    const never = spawnSync(tandem, ['rollback', 'other', '--data-dir', server.dataDir], { encoding: 'utf8' });
    assert.equal(never.status, 1);
    assert.match(never.stderr, /never deployed/);
  } finally {
    await server.stop();
  }
});
