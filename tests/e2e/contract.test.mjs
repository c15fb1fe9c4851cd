// The wire contract's rows on chat, errors and configuration, as a client and an operator meet them.
// docs/contract-tests.md says which test shows which row.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server, run, tandem } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile } from './config_file.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const device = ['--alias', 'phi-4-mini=demo', '--alias', 'mimo-7b=demo', '--alias', 'mimo-7b-int4=demo'];
const hello = [{ role: 'user', content: 'Do you ship to Singapore?' }];
const maths = [{ role: 'user', content: 'Solve 3x + 4 = 19 and show each step.' }];
const unreadable = '\u{fffd}\u{fffd}\u{fffd}\u{fffd} ok';

// The cloud, whose behaviour a test sets; and a server with the shipped strategy, whose device tiers
// are the demo model.
let cloud, behave, config, server, admin;
const answer = (call) => call.answer('x ', 'is ', '5.');
before(async () => {
  cloud = await FakeUpstream.start((call) => behave(call));
  const shipped = readFileSync(join(root, 'config/three-tier.toml'), 'utf8');
  config = new ConfigFile(shipped.replace('https://api.deepseek.com/v1', cloud.url)
    + '\n[retry]\nmax_retries = 0\n[breaker]\nfailures_in_a_row = 1000\nmin_outcomes = 1000\n');
  server = await Server.start(['--config', config.path, ...device], { DEEPSEEK_API_KEY: 'sk-test' });
  admin = adminKey(server);
});
after(async () => {
  await server?.stop();
  await cloud?.stop();
  config?.remove();
});

function adminKey(of) {
  return run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', of.dataDir], { stdio: 'pipe' })
    .trim().split('\n').at(-1);
}
function chat(body, path = '/v1/chat/completions', of = server) {
  return of.fetch(path, { body: { model: 'three-tier', temperature: 0, ...body } });
}
const route = (response) => [response.headers.get('x-tandem-tier'), response.headers.get('x-tandem-model'),
  response.headers.get('x-tandem-route-reason')];
function lines(text) {
  return text.split('\n').filter((line) => line !== '').map((line) => {
    assert.ok(line.startsWith('data: '), `not a data line: ${line}`);
    return JSON.parse(line.slice('data: '.length));
  });
}
const said = (events) => events.map((event) => event.content ?? '').join('');

// ---- Chat -----------------------------------------------------------------------------------------

test('the three tiers: simple on the device, maths and demanded quality in the cloud', async () => {
  behave = answer;
  const simple = await chat({ messages: hello });
  assert.equal(simple.status, 200);
  assert.deepEqual(route(simple), ['device_small', 'demo', 'simple']);
  assert.match(simple.headers.get('x-request-id'), /^req-/);
  const hard = await chat({ messages: maths });
  assert.deepEqual(route(hard), ['cloud', 'deepseek-v3.2', 'math_and_code']);
  assert.equal((await hard.json()).choices[0].message.content, 'x is 5.');
  const best = await chat({ messages: hello, require_high_quality: true });
  assert.deepEqual(route(best), ['cloud', 'deepseek-v3.2', 'high_quality']);
  const streamed = await chat({ messages: maths, stream: true });
  assert.deepEqual(route(streamed), ['cloud', 'deepseek-v3.2', 'math_and_code']);
  assert.ok((await streamed.text()).endsWith('data: [DONE]\n\n'));
});

test('every model id of the contract is answered to, in either spelling of the field', async () => {
  behave = answer;
  for (const [id, tier] of [['phi-4-mini', /^device/], ['phi-4-mini-int4', /^device/], ['mimo-7b-int4', /^device/],
    ['mimo-7b', /^device/], ['deepseek-v3.2', /^cloud$/]]) {
    for (const field of ['model', 'model_id']) {
      const response = await server.fetch('/v1/chat/completions', { body: { [field]: id, messages: hello } });
      assert.equal(response.status, 200, `${field} ${id}: ${await response.clone().text()}`);
      assert.match(response.headers.get('x-tandem-tier'), tier, id);
    }
  }
});

test('the tandem object is in the body where it was asked for, and nowhere else', async () => {
  behave = answer;
  assert.equal((await (await chat({ messages: maths })).json()).tandem, undefined);
  const asked = await (await chat({ messages: maths, tandem: true })).json();
  assert.equal(asked.tandem.route_reason, 'math_and_code');
  assert.equal(asked.tandem.requested_model, 'three-tier');
  assert.deepEqual(asked.tandem.attempts.map((attempt) => [attempt.target, attempt.outcome, attempt.text]),
    [['cloud', 'answered', [0, 7]]]);
});

for (const field of ['force_local_inference', 'local_inference']) {
  test(`${field}: what would go to the cloud stays, and what the device cannot serve is an error`, async () => {
    behave = answer;
    const calls = cloud.calls.length;
    const local = await chat({ messages: maths, require_high_quality: true, [field]: true });
    assert.equal(local.status, 200);
    assert.match(local.headers.get('x-tandem-tier'), /^device/);
    const without = await Server.start(['--config', config.path], { DEEPSEEK_API_KEY: 'sk-test' });
    try {
      const refused = await chat({ messages: maths, [field]: true }, undefined, without);
      assert.equal(refused.status, 409);
      const { error } = await refused.json();
      assert.equal(error.code, 'model_not_installed');
      assert.match(error.message, /tandem pull/, 'it says what would make it servable');
      const named = await chat({ model: 'deepseek-v3.2', messages: maths, privacy: 'on_device' }, undefined, without);
      assert.equal((await named.json()).error.code, 'privacy_refused');
      assert.equal(cloud.calls.length, calls, 'the cloud was not asked');
      assert.equal((await chat({ messages: hello, require_high_quality: true }, undefined, without)).status, 200,
        'and would have answered');
    } finally {
      await without.stop();
    }
  });
}

test('quality_check: a text that is none falls back, and is an error where it may not', async () => {
  behave = (call) => call.answer(unreadable);
  const passed = await chat({ messages: maths });
  assert.equal((await passed.json()).choices[0].message.content, unreadable, 'nobody asked for a check');
  const saved = await chat({ messages: maths, quality_check: true });
  assert.equal(saved.status, 200);
  assert.deepEqual(route(saved).slice(1), ['demo', 'fallback']);
  const failed = await chat({ messages: maths, quality_check: true, fallback: false });
  assert.equal(failed.status, 502);
  const { error } = await failed.json();
  assert.equal(error.code, 'OUTPUT_VALIDATION_FAILED');
  assert.match(error.message, /replacement.*\d/, 'which check, and its figure');
});

test('/v1/chat/streaming: JSON behind data: and nothing else, done comes last', async () => {
  behave = answer;
  const response = await chat({ messages: maths, stream: true, memory_optimized: true }, '/v1/chat/streaming');
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  const events = lines(await response.text());
  assert.equal(said(events), 'x is 5.');
  assert.deepEqual(events.map((event) => event.done), [...Array(events.length - 1).fill(false), true]);
});

test('/v1/chat/streaming over a hand-off: one text, one done', async () => {
  // What went on is another model's, so only its beginning is known.
  behave = (call) => call.open().say('x ', 'is ').cut();
  const body = { model: 'deepseek-v3.2', messages: hello, tandem: true };
  const events = lines(await (await chat(body, '/v1/chat/streaming')).text());
  assert.ok(said(events).startsWith('x is '));
  assert.equal(events.filter((event) => event.done).length, 1);
  const { attempts } = events.at(-1).tandem;
  assert.deepEqual(attempts.map((attempt) => attempt.outcome), ['handed_off', 'answered']);
  assert.deepEqual(attempts.map((attempt) => attempt.text), [[0, 5], [5, Buffer.byteLength(said(events))]]);
});

test('/v1/chat/streaming: an error behind the first token is the last event', async () => {
  behave = (call) => call.open().say('x ', 'is ').cut();
  const events = lines(await (await chat({ messages: maths, fallback: false }, '/v1/chat/streaming')).text());
  assert.equal(said(events), 'x is ');
  assert.deepEqual([events.at(-1).error.code, events.at(-1).done], ['unavailable', true]);
  assert.equal(events.filter((event) => event.done).length, 1);
});

// ---- Errors ---------------------------------------------------------------------------------------

test('an error is OpenAI\'s object with its four fields', async () => {
  behave = (call) => call.fail(500);
  for (const [body, status, type, code, param] of [
    [{ messages: hello, model: 'no-such-model' }, 404, 'invalid_request_error', 'model_not_found', 'model'],
    [{ messages: hello, temperature: 'warm' }, 400, 'invalid_request_error', 'invalid_request', 'temperature'],
    [{ messages: hello, mode: 'SOMEWHERE' }, 400, 'invalid_request_error', 'invalid_request', 'mode'],
    [{ messages: hello, n: 2 }, 400, 'invalid_request_error', 'unsupported_value', 'n'],
    [{ messages: maths, fallback: false }, 503, 'server_error', 'unavailable', null],
  ]) {
    const response = await chat(body);
    assert.equal(response.status, status, JSON.stringify(body));
    const { error, ...rest } = await response.json();
    assert.deepEqual(rest, {});
    assert.deepEqual(Object.keys(error), ['message', 'type', 'code', 'param']);
    assert.deepEqual([error.type, error.code, error.param], [type, code, param]);
  }
});

test('x-should-retry: false where everything was tried, and nothing where the request was wrong', async () => {
  behave = (call) => call.fail(500);
  const spent = await chat({ messages: maths, fallback: false });
  assert.equal(spent.headers.get('x-should-retry'), 'false');
  assert.equal((await chat({ messages: hello, model: 'no-such-model' })).headers.get('x-should-retry'), null);
  behave = (call) => call.fail(429, undefined, { 'Retry-After': '30' });
  const later = await chat({ messages: maths, fallback: false });
  assert.deepEqual([later.status, later.headers.get('retry-after'), later.headers.get('x-should-retry')],
    [429, '30', null], 'the provider says when to come again');
});

test('OUT_OF_MEMORY: what is wanted and what is there', async () => {
  const small = await Server.start(['--memory-limit', '1MiB']);
  try {
    const response = await chat({ model: 'demo', messages: hello }, undefined, small);
    assert.equal(response.status, 503);
    const { error } = await response.json();
    assert.equal(error.code, 'OUT_OF_MEMORY');
    const [wanted, available] = error.message.match(/\d{4,}/g).map(Number);
    assert.ok(wanted > available, error.message);
    assert.equal(available, 1 << 20);
  } finally {
    await small.stop();
  }
});

// ---- Deployment configuration ---------------------------------------------------------------------

function deployment(share, more = {}) {
  return JSON.stringify({
    primary: { base_url: 'local', model: 'mimo-7b-int4', traffic_percentage: share, timeout_ms: 5000 },
    fallback: { base_url: cloud.url, model: 'deepseek-v3.2', traffic_percentage: 100 - share, timeout_ms: 8000 },
    circuit_breaker: { error_threshold: 0.05, recovery_timeout_seconds: 60 },
    ...more,
  });
}
const users = Array.from({ length: 400 }, (_, i) => `user-${i}`);
// Whom a strategy sends to `target` first, without running anything.
async function whoGoesTo(of, target) {
  const first = await Promise.all(users.map(async (user) => {
    const response = await of.fetch('/v1/route/explain', { body: { model: 'tandem', user, messages: hello } });
    return (await response.json()).decision.candidates[0].target;
  }));
  return new Set(users.filter((_, i) => first[i] === target));
}
const contains = (large, small) => [...small].every((user) => large.has(user));

test('the deployment shape: from a file, 90 to 10; over the API, without a restart; a wrong one changes nothing', async () => {
  const file = new ConfigFile(deployment(90), 'deployment.json');
  const edge = await Server.start(['--config', file.path, ...device]);
  try {
    const key = adminKey(edge);
    const put = (body, headers) => edge.fetch('/v1/admin/config', { key, method: 'PUT', body, headers });
    behave = answer;
    const ten = await whoGoesTo(edge, 'fallback');
    assert.ok(ten.size > 16 && ten.size < 70, `${ten.size} of 400 in the cloud, where 40 are meant to be`);
    const [user] = ten;
    const response = await chat({ model: 'tandem', user, messages: hello }, undefined, edge);
    assert.deepEqual(route(response), ['cloud', 'deepseek-v3.2', 'split']);

    const half = await put(deployment(50));
    assert.equal(half.status, 200);
    assert.equal((await half.json()).version, 2);
    const fifty = await whoGoesTo(edge, 'fallback');
    assert.ok(fifty.size > 150 && fifty.size < 250, `${fifty.size} of 400`);
    assert.ok(contains(fifty, ten), 'who was in the cloud stays there');

    const wrong = await put(deployment(50, { circuit_breaker: { error_threshold: 5 }, primery: {} }));
    assert.equal(wrong.status, 400);
    const { error } = await wrong.json();
    assert.match(error.message, /deployment\.json:1:\d+: .*error_threshold/);
    assert.match(error.message, /primery/, 'all mistakes at once');
    const stale = await put(deployment(0), { 'If-Match': '"0000"' });
    assert.equal(stale.status, 409, 'another one is in force than the writer has seen');
    const now = await (await edge.fetch('/v1/admin/config', { key })).json();
    assert.equal(now.version, 2);
    assert.match(now.text, /^error_threshold = 0\.05 /m);
    assert.match(now.text, /^recovery_timeout_s = 60 /m);
    assert.deepEqual([...await whoGoesTo(edge, 'fallback')], [...fifty]);
    assert.equal(readFileSync(file.path, 'utf8'), deployment(50), 'the file is what is in force');

    file.write(deployment(100));
    edge.process.kill('SIGHUP');
    const deadline = Date.now() + 10_000;
    let version;
    do version = (await (await edge.fetch('/v1/admin/config', { key })).json()).version;
    while (version === 2 && Date.now() < deadline);
    assert.equal((await whoGoesTo(edge, 'fallback')).size, 0);
  } finally {
    await edge.stop();
    file.remove();
  }
});

test('the deployment shape: timeout_ms is for the whole answer of its target', async () => {
  const file = new ConfigFile(deployment(0).replace('"timeout_ms":8000', '"timeout_ms":150'), 'deployment.json');
  const edge = await Server.start(['--config', file.path, ...device]);
  try {
    behave = (call) => call.open().say('x ');
    const late = await chat({ model: 'tandem', messages: hello, fallback: false }, undefined, edge);
    assert.equal(late.status, 504);
    assert.equal((await late.json()).error.code, 'deadline_exceeded');
    await cloud.calls.at(-1).closed;
    const saved = await chat({ model: 'tandem', messages: hello, tandem: true }, undefined, edge);
    assert.equal(saved.status, 200);
    assert.deepEqual((await saved.json()).tandem.attempts.map((attempt) => attempt.target), ['fallback', 'primary']);
  } finally {
    await edge.stop();
    file.remove();
  }
});

// ---- Roll-out -------------------------------------------------------------------------------------

test('a roll-out by hand: 5 %, 50 %, 100 %, and back; the audit log has each step', async () => {
  const edge = await Server.start(['--config', config.path, ...device], { DEEPSEEK_API_KEY: 'sk-test' });
  try {
    behave = answer;
    const key = adminKey(edge);
    const canary = (...args) => {
      const result = spawnSync(tandem, ['canary', ...args, '--url', edge.url, '--json'],
        { encoding: 'utf8', env: { ...process.env, TANDEM_ADMIN_KEY: key } });
      return { code: result.status, err: result.stderr, status: result.status === 0 ? JSON.parse(result.stdout) : null };
    };
    assert.match(canary('status').err, /no canary/);
    assert.match(canary('start', 'r', '--target', 'moon', '--baseline', 'small').err, /moon/);

    const started = canary('start', 'r', '--target', 'large', '--baseline', 'small', '--steps', '0.05,0.5,1').status;
    assert.deepEqual([started.state, started.share, started.steps], ['running', 0.05, [0.05, 0.5, 1]]);
    const five = await whoGoesTo(edge, 'large');
    assert.ok(five.size >= 4 && five.size <= 40, `${five.size} of 400, where 20 are meant to be`);
    assert.match(canary('start', 'other', '--target', 'large', '--baseline', 'small').err, /'r'/, 'one at a time');

    const [user] = five;
    const answered = await chat({ user, messages: hello, tandem: true }, undefined, edge);
    assert.equal((await answered.json()).tandem.attempts[0].target, 'large');
    const id = answered.headers.get('x-tandem-request-id');
    const event = await edge.fetch('/v1/events', { body: { request_id: id, event: 'copied' } });
    assert.deepEqual([event.status, await event.json()], [202, { status: 'counted' }]);
    await chat({ user: users.find((each) => !five.has(each)), messages: hello }, undefined, edge);
    const deadline = Date.now() + 10_000;
    let status;
    do status = canary('status').status;
    while (status.canary_samples + status.baseline_samples < 2 && Date.now() < deadline);
    assert.deepEqual([status.canary_samples, status.baseline_samples], [1, 1]);

    assert.equal(canary('promote').status.share, 0.5);
    const fifty = await whoGoesTo(edge, 'large');
    assert.ok(fifty.size > 150 && fifty.size < 250, `${fifty.size} of 400`);
    assert.ok(contains(fifty, five), 'who was in it stays in it');
    assert.equal(canary('hold').status.state, 'held');
    const promoted = canary('promote', '--completely').status;
    assert.deepEqual([promoted.state, promoted.share], ['promoted', 1]);
    assert.equal((await whoGoesTo(edge, 'large')).size, users.length);

    assert.equal(canary('start', 'second', '--target', 'cloud', '--baseline', 'small', '--steps', '1').code, 0);
    assert.equal((await whoGoesTo(edge, 'cloud')).size, users.length);
    assert.equal(canary('rollback').status.state, 'rolled_back');
    assert.equal((await whoGoesTo(edge, 'cloud')).size, 0);

    const { records } = await (await edge.fetch('/v1/admin/audit', { key })).json();
    assert.deepEqual(records.filter((record) => record.action.startsWith('CANARY')).reverse()
      .map((record) => [record.action, record.subject]), [['CANARY_START', 'r'], ['CANARY_STEP', 'r'], ['CANARY_HOLD', 'r'],
      ['CANARY_PROMOTE', 'r'], ['CANARY_START', 'second'], ['CANARY_ROLLBACK', 'second']]);
    assert.match(records[0].who, /^key:/);
  } finally {
    await edge.stop();
  }
});

test('a roll-out that fails is taken back by itself, and its users get answers all the time', async () => {
  const edge = await Server.start(['--config', config.path, ...device], { DEEPSEEK_API_KEY: 'sk-test' });
  try {
    behave = (call) => call.fail(500);
    const key = adminKey(edge);
    const body = { id: 'bad', target: 'cloud', baseline: 'small', steps: [1] };
    assert.equal((await edge.fetch('/v1/admin/canary/start', { key, body })).status, 200);
    for (let i = 0; i < 5; ++i) {
      const response = await chat({ user: users[i], messages: hello }, undefined, edge);
      assert.equal(response.status, 200);
      await response.text();
    }
    const deadline = Date.now() + 10_000;
    let status;
    do status = await (await edge.fetch('/v1/admin/canary', { key })).json();
    while (status.state === 'running' && Date.now() < deadline);
    assert.equal(status.state, 'rolled_back');
    assert.match(status.last_change, /5/);
    const calls = cloud.calls.length;
    await (await chat({ messages: hello }, undefined, edge)).text();
    assert.equal(cloud.calls.length, calls);
    const { records } = await (await edge.fetch('/v1/admin/audit?limit=1', { key })).json();
    assert.equal(records[0].action, 'CANARY_ROLLBACK');
  } finally {
    await edge.stop();
  }
});

// ---- Keys -----------------------------------------------------------------------------------------

test('KEY_ROTATION: the audit record has the time, both prefixes and who did it', async () => {
  const old = run(['keys', 'create', 'app', '--data-dir', server.dataDir], { stdio: 'pipe' }).trim().split('\n').at(-1);
  const renewed = run(['keys', 'rotate', 'app', '--overlap', '1h', '--data-dir', server.dataDir], { stdio: 'pipe' }).trim().split('\n').at(-1);
  for (const key of [old, renewed]) assert.equal((await server.fetch('/v1/models', { key })).status, 200);
  const response = await server.fetch('/v1/admin/audit?limit=1', { key: admin });
  const text = await response.text();
  const [record] = JSON.parse(text).records;
  assert.equal(record.action, 'KEY_ROTATION');
  assert.ok(Math.abs(Date.parse(record.time) - Date.now()) < 60_000);
  assert.match(record.who, /^local:/);
  const detail = JSON.parse(record.detail);
  assert.deepEqual([detail.old_prefix, detail.new_prefix], [old.slice(0, 17), renewed.slice(0, 17)]);
  for (const key of [old, renewed]) assert.ok(!text.includes(key.slice(18)), 'never a key');
});
