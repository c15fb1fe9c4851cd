// Who would answer and why, before and after: explained without running anything, recorded with the
// answer, decided again from the record; and a second target that starts early.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, run } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile, upstreams } from './config_file.mjs';

let fast, hanging, edge, config, admin;
before(async () => {
  fast = await FakeUpstream.start((call) => call.answer('Seven ', 'times ', 'six.'));
  hanging = await FakeUpstream.start((call) => call.open());
  config = new ConfigFile(`
${upstreams({ 'deepseek-v3.2': fast.url, slow: hanging.url }, 'kind = "tandem"\nfirst_token_timeout_ms = 60000')}
[[alias]]
name = "phi-4-mini"
model = "demo"
[[strategy]]
name = "pair"
[[strategy.target]]
id = "small"
tier = "device_small"
model = "phi-4-mini"
[[strategy.target]]
id = "large"
tier = "device_large"
model = "mimo-7b-int4"
[[strategy.target]]
id = "cloud"
tier = "cloud"
model = "deepseek-v3.2"
[[strategy.rule]]
name = "math"
tasks = ["math_reasoning"]
targets = ["cloud", "large", "small"]
[[strategy]]
name = "hedged"
[[strategy.target]]
id = "first"
tier = "cloud"
model = "slow"
hedge_after_ms = 20
[[strategy.target]]
id = "second"
tier = "cloud"
model = "deepseek-v3.2"
[[strategy.rule]]
name = "always"
targets = ["first", "second"]
`);
  edge = await Server.start(['--config', config.path], { TEST_KEY: 'sk-test' });
  admin = run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', edge.dataDir]).trim().split('\n').at(-1);
});
after(async () => {
  await edge?.stop();
  await fast?.stop();
  await hanging?.stop();
  config?.remove();
});
const call = (path) => edge.fetch(`/v1/admin/${path}`, { key: admin }).then((response) => response.json());
const maths = { model: 'pair', user: 'somebody', messages: [{ role: 'user', content: 'Solve 3x+4=19 and show each step.' }] };

test('route explain works without a server and without a cloud key: what the device can do, and why nothing else', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'tandem-explain-'));
  try {
    const env = { ...process.env, TEST_KEY: '', DEEPSEEK_API_KEY: '' };
    const shipped = JSON.parse(run(['route', 'explain', maths.messages[0].content, '--json', '--data-dir', dataDir], { env }));
    assert.equal(shipped.facts.task, 'math_reasoning');
    assert.deepEqual(shipped.decision.candidates, [], 'no model is installed');
    const rejected = Object.fromEntries(shipped.decision.rejections.map((one) => [one.target, one.detail]));
    assert.deepEqual(Object.keys(rejected).sort(), ['cloud', 'large', 'small']);
    assert.match(rejected.cloud, /DEEPSEEK_API_KEY/);
    assert.match(rejected.small, /tandem pull phi-4-mini/);
    // Another strategy, in which the demo model stands for the small one.
    const own = JSON.parse(run(['route', 'explain', maths.messages[0].content, '--strategy', config.path, '--json', '--data-dir', dataDir], { env }));
    assert.deepEqual(own.decision.candidates.map((one) => one.target), ['small']);
    assert.deepEqual(own.decision.rejections.map((one) => one.target).sort(), ['cloud', 'large']);
    const shown = run(['route', 'explain', maths.messages[0].content, '--strategy', config.path, '--data-dir', dataDir], { env });
    assert.match(shown, /small/);
    assert.match(shown, /TEST_KEY/);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test('an explanation asks, loads and records nothing; the same decision is kept with the answer and made again from it', async () => {
  const before = (await call('usage')).groups[0]?.requests ?? 0;
  const explained = await edge.fetch('/v1/route/explain', { body: maths }).then((response) => response.json());
  assert.equal(fast.calls.length, 0);
  assert.deepEqual(explained.decision.candidates.map((one) => one.target), ['cloud', 'small']);
  assert.equal(explained.decision.candidates[0].reason, 'math');
  for (const candidate of explained.decision.candidates) {
    assert.ok('predicted_ttft_ms' in candidate && 'predicted_e2e_ms' in candidate, JSON.stringify(candidate));
  }
  assert.ok(Number(explained.decision.candidates[0].predicted_cost_usd) > 0, JSON.stringify(explained.decision.candidates[0]));
  assert.equal(Number(explained.decision.candidates[1].predicted_cost_usd), 0);
  assert.match(explained.decision.rejections.find((one) => one.target === 'large').detail, /tandem pull mimo-7b/);
  assert.ok(!JSON.stringify(explained).includes('3x+4'), 'no word of the conversation');

  const response = await edge.fetch('/v1/chat/completions', { body: maths });
  assert.equal(response.headers.get('x-tandem-route-reason'), 'math');
  await response.text();
  const id = response.headers.get('x-tandem-request-id');
  assert.equal(fast.calls.length, 1);
  const record = await call(`usage/${id}`);
  assert.equal((await call('usage')).groups[0].requests, before + 1);
  const order = (decision) => [decision.candidates.map((one) => [one.target, one.reason]), decision.rejections];
  assert.deepEqual(order(record.decision.decision), order(explained.decision));
  assert.deepEqual(record.attempts.map((one) => one.target), ['cloud']);
  assert.ok(Number(record.cost_usd) > 0);

  const again = JSON.parse(run(['route', 'replay', id, '--url', edge.url], { env: { ...process.env, TANDEM_ADMIN_KEY: admin } }));
  assert.equal(again.same, true);
});

test('hedge: the next target starts when the first says nothing; the first text wins, the other call is cancelled and recorded', async () => {
  for (const stream of [false, true]) {
    const response = await edge.fetch('/v1/chat/completions', { body: { ...maths, model: 'hedged', stream } });
    const body = await response.text();
    assert.equal(response.status, 200, body);
    assert.match(body, /six/);
    const record = await call(`usage/${response.headers.get('x-tandem-request-id')}`);
    assert.deepEqual(record.attempts.map((one) => [one.target, one.outcome, one.hedge]),
      [['first', 'cancelled', false], ['second', 'answered', true]]);
    const lost = hanging.calls.at(-1);
    await lost.closed;
    assert.ok(lost.aborted, 'cancels upstream');
  }
});
