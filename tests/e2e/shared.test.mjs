// Two nodes on one PostgreSQL: one roll-out, judged by what both saw, decided by one of them.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ConfigFile, upstreams } from './config_file.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { Postgres } from './postgres.mjs';
import { Server, run, tandem } from './server.mjs';

const env = { TEST_KEY: 'sk-test' };
let postgres;
let upstream;
let config;
let dirs = [];
let nodes = [];
let admin;
let n_new = 0;  // calls of the new target

// The new target fails every second time, which its fallback makes good.
before(async () => {
  postgres = await Postgres.start();
  if (!postgres) return;
  upstream = await FakeUpstream.start((call) => {
    if (call.model === 'new' && ++n_new % 2 === 0) call.fail(500);
    else call.answer('hello');
  });
  config = new ConfigFile(`
[store]
url = "${postgres.url}"

[breaker]
error_threshold = 1
failures_in_a_row = 1000000
min_outcomes = 1000000

[retry]
max_retries = 0
${upstreams({ old: upstream.url, new: upstream.url })}

[[strategy]]
name = "s"

[[strategy.target]]
id = "old"
model = "old"
tier = "cloud"

[[strategy.target]]
id = "new"
model = "new"
tier = "cloud"

[[strategy.rule]]
name = "all"
targets = ["old", "new"]

[canary]
id = "first"
target = "new"
baseline = "old"
steps = [0.5, 1.0]
min_step_time_s = 1
step_time_s = 600
min_samples = [30, 30, 30]
min_error_samples = 50
failures_in_a_row = 1000000
`);
  dirs = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'tandem-e2e-')));
  const create = (...args) => run(['keys', 'create', ...args, '--data-dir', dirs[0], '--config', config.path])
    .trim().split('\n').at(-1);
  const key = create('app');
  admin = create('ops', '--scope', 'admin');
  // What nodes that share a database must share beside it.
  copyFileSync(join(dirs[0], 'key-pepper'), join(dirs[1], 'key-pepper'));
  nodes = await Promise.all(dirs.map((dataDir) => Server.start(['--config', config.path], env, { dataDir, key })));
});

after(async () => {
  for (const node of nodes) await node.stop();
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
  await upstream?.stop();
  config?.remove();
  await postgres?.stop();
});

const status = async (node) => (await node.fetch('/v1/admin/canary', { key: admin })).json();
const audit = async (node) => (await (await node.fetch('/v1/admin/audit', { key: admin })).json())
  .records.map((record) => `${record.action} ${record.subject}`).reverse();

async function until(what, check) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const found = await check();
    if (found) return found;
    assert.ok(Date.now() < deadline, what);
  }
}

// `n` answers for users of the canary and as many for others.
async function traffic(node, n, salt) {
  const wanted = { old: n, new: n };
  for (let i = 0; wanted.old + wanted.new > 0; ++i) {
    assert.ok(i < 100 * n, 'both arms have subjects');
    const explained = await node.fetch('/v1/route/explain', {
      body: { model: 's', user: `${salt}-${i}`, messages: [{ role: 'user', content: 'Hello there' }] } });
    const arm = (await explained.json()).decision.candidates[0].target;
    if (wanted[arm] === 0) continue;
    --wanted[arm];
    const answer = await node.fetch('/v1/chat/completions', {
      body: { model: 's', user: `${salt}-${i}`, messages: [{ role: 'user', content: 'Hello there' }] } });
    assert.equal(answer.status, 200, await answer.text());
  }
}

test('one decision on the sum of both nodes, which both follow', async (t) => {
  if (!postgres) return t.skip('no PostgreSQL is installed');
  await traffic(nodes[0], 30, 'a');
  const half = await until('the figures are published', async () => {
    const seen = await status(nodes[1]);
    return seen.canary_samples === 30 && seen;
  });
  assert.deepEqual([half.state, half.canary_arm.error_share, half.baseline_arm.error_share], ['running', 0.5, 0]);
  assert.ok(half.baseline_arm.ttft_ms.p99 > 0 && half.baseline_arm.total_ms.p50 > 0);
  const deciders = await Promise.all(nodes.map(status));
  assert.equal(deciders.filter((each) => each.decides_here).length, 1);

  await traffic(nodes[1], 30, 'b');
  for (const node of nodes) {
    const over = await until('it is rolled back', async () => {
      const seen = await status(node);
      return seen.state !== 'running' && seen;
    });
    assert.equal(over.state, 'rolled_back');
    assert.match(over.last_change, /errors: 30 of 60 for the canary, 0 of 60 for the baseline/);
  }
  assert.deepEqual(await audit(nodes[0]), ['KEY_CREATE app', 'KEY_CREATE ops', 'CANARY_START first', 'CANARY_ROLLBACK first']);
  const before_ = n_new;
  for (const node of nodes) {
    for (let i = 0; i < 20; ++i) {
      await (await node.fetch('/v1/chat/completions', {
        body: { model: 's', user: `c-${i}`, messages: [{ role: 'user', content: 'Hello' }] } })).text();
    }
  }
  assert.equal(n_new, before_, 'nobody gets it any more, on either node');

  const shown = spawnSync(tandem, ['canary', 'status', '--url', nodes[1].url],
    { encoding: 'utf8', env: { ...process.env, TANDEM_ADMIN_KEY: admin } });
  assert.match(shown.stdout, /canary +60 +50\.00 %/);
});

test('when the node that decides is killed, the other one does', async (t) => {
  if (!postgres) return t.skip('no PostgreSQL is installed');
  const body = { id: 'second', target: 'new', baseline: 'old', steps: [0.5, 1] };
  assert.equal((await nodes[0].fetch('/v1/admin/canary/start', { key: admin, body })).status, 200);
  const first = (await status(nodes[0])).decides_here ? 0 : 1;
  const [holder, other] = [nodes[first], nodes[1 - first]];
  await until('the other one follows', async () => (await status(other)).id === 'second');
  assert.equal((await status(other)).decides_here, false);
  holder.process.kill('SIGKILL');
  await holder.exited;
  const failing = upstream.behave;
  upstream.behave = (call) => (call.model === 'new' ? call.fail(500) : failing(call));
  await traffic(other, 5, 'd');
  const over = await until('the survivor decides', async () => {
    const seen = await status(other);
    return seen.state === 'rolled_back' && seen;
  });
  assert.equal(over.decides_here, true);
  assert.match(over.last_change, /5 failures in a row/);
  upstream.behave = failing;

  // What was decided, and by which strategy, is known after a restart.
  nodes = [other];
  const answered = await other.fetch('/v1/chat/completions', { body: { model: 's', messages: [{ role: 'user', content: 'Hello' }] } });
  const id = answered.headers.get('x-tandem-request-id');
  await answered.text();
  await other.fetch(`/v1/admin/usage/${id}`, { key: admin });
  other.process.kill('SIGTERM');
  await other.exited;
  config.write(`
[store]
url = "${postgres.url}"
`);
  const again = await Server.start(['--config', config.path], env, { dataDir: other.dataDir, key: other.key });
  nodes = [again];
  const found = await status(again);
  assert.deepEqual([found.id, found.state], ['second', 'rolled_back']);
  const replayed = await again.fetch(`/v1/admin/replay/${id}`, { key: admin });
  assert.equal(replayed.status, 200, await replayed.clone().text());
  assert.equal((await replayed.json()).same, true);
});
