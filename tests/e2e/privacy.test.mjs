// What must stay on the device does, whatever is asked, routed and broken: the only outside socket
// is a recorder.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Server, run } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile, upstreams } from './config_file.mjs';

// Deterministic, so that a failure can be run again: TANDEM_SEED=... node --test privacy.test.mjs
const seed = Number(process.env.TANDEM_SEED ?? 20261123);
let state = seed;
function random() {  // mulberry32
  state = (state + 0x6D2B79F5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pick = (list) => list[Math.floor(random() * list.length)];
const chance = (share) => random() < share;

let recorder, edge, config, admin;
let behaviour = (call) => call.answer('noted');

function text(mode, defaults, redactNames = true) {
  return `
${upstreams({ outside: recorder.url }, 'kind = "tandem"\nfirst_token_timeout_ms = 2000')}
[[alias]]
name = "phi-4-mini"
model = "demo"
[privacy]
default = "${defaults}"
names = [${redactNames ? '"Zebulon Quux"' : ''}]
log_egress = true
[breaker]
failures_in_a_row = 100000
min_outcomes = 100000
[[strategy]]
name = "mixed"
mode = "${mode}"
[[strategy.target]]
id = "small"
tier = "device_small"
model = "phi-4-mini"
[[strategy.target]]
id = "cloud"
tier = "cloud"
model = "outside"
[[strategy.rule]]
name = "hard"
tasks = ["math_reasoning", "code_generation"]
targets = ["cloud", "small"]
[[strategy.rule]]
name = "quality"
require_high_quality = true
targets = ["cloud", "small"]
[[strategy.split]]
target = "cloud"
share = 0.5
`;
}
const reload = async (...version) => {
  config.write(text(...version));
  const response = await edge.fetch('/v1/admin/config/reload', { key: admin, method: 'POST', body: '' });
  assert.equal(response.status, 200, await response.text());
};

before(async () => {
  recorder = await FakeUpstream.start((call) => behaviour(call));
  config = new ConfigFile(text('PREFER_ON_DEVICE', 'any'));
  edge = await Server.start(['--config', config.path, '--log-level', 'debug'], { TEST_KEY: 'sk-test' });
  admin = run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', edge.dataDir]).trim().split('\n').at(-1);
});
after(async () => {
  await edge?.stop();
  await recorder?.stop();
  config?.remove();
});

// A word that stands nowhere else.
let n_marks = 0;
const mark = () => `zq${(n_marks += 1).toString(36)}x${Math.floor(random() * 2 ** 40).toString(36)}`;

// Everything that Tandem wrote down or sent.
function everywhere() {
  const files = readdirSync(edge.dataDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile()).map((entry) => readFileSync(join(entry.parentPath ?? entry.path, entry.name)));
  return { sent: recorder.calls.map((call) => call.text).join('\n'), log: edge.log, kept: Buffer.concat(files).toString('latin1') };
}

// A conversation in which every text holds a mark of its own.
function conversation(marks) {
  const say = (words) => { const m = mark(); marks.push(m); return `${words} ${m}`; };
  const messages = [];
  if (chance(0.5)) messages.push({ role: 'system', content: say('You help customers. Account') });
  messages.push({ role: 'user', content: say(pick(['What is 12 * 7 for order', 'Write a python function for', 'Do you ship to', 'Hello, I am'])) });
  for (let turn = 0; turn < Math.floor(random() * 3); turn += 1) {
    if (chance(0.4)) {
      messages.push({ role: 'assistant', content: null, tool_calls: [{ id: `call_${turn}`, type: 'function',
        function: { name: 'look_up', arguments: JSON.stringify({ order: say('number') }) } }] });
      messages.push({ role: 'tool', tool_call_id: `call_${turn}`, content: say('The customer lives at a secret place and the parcel is') });
    }
    messages.push({ role: 'assistant', content: say('It is on its way, and this is a long enough answer to be known again: reference') });
    messages.push({ role: 'user', content: say(pick(['And the second one?', 'Prove that 17 is prime for'])) });
  }
  const request = { model: pick(['mixed', 'phi-4-mini', 'tandem', 'outside']), messages, max_tokens: 12,
    stream: chance(0.5), require_high_quality: chance(0.3), quality_check: chance(0.3) };
  if (chance(0.3)) {
    request.tools = [{ type: 'function', function: { name: 'look_up', description: say('Finds an order'),
      parameters: { type: 'object', properties: { order: { type: 'string' } } } } }];
  }
  if (chance(0.3)) request.user = say('user');
  if (chance(0.2)) request.stop = [say('stop')];
  return request;
}
const saidIn = (body) => (body.startsWith('data: ')
  ? body.split('\n\n').filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)).choices?.[0]?.delta?.content ?? '').join('')
  : JSON.parse(body).choices[0].message.content) || 'Fine.';
const faults = [
  (call) => call.answer('noted'), (call) => call.fail(500), (call) => call.fail(429, undefined, { 'Retry-After': '0' }), (call) => call.cut(),
  (call) => { call.open().say('no', 'ted'); call.cut(); }, (call) => call.fail(400, { message: call.text, code: 'x' }),
];

test('not one byte of an on_device conversation reaches the recorder, a log, a cache or a record', { timeout: 300_000 }, async () => {
  const secret = [];
  let outside = 0;
  for (let round = 0; round < 120; round += 1) {
    if (round % 30 === 0) {
      await reload(pick(['PREFER_ON_DEVICE', 'PREFER_IN_CLOUD']), pick(['any', 'redacted']));
    }
    behaviour = pick(faults);
    const marks = [];
    const request = conversation(marks);
    const onDevice = chance(0.6);
    if (onDevice) {
      Object.assign(request, pick([{ privacy: 'on_device' }, { force_local_inference: true }, { local_inference: true }]));
      if (request.privacy === 'on_device' && chance(0.5)) request.conversation_id = `conversation-${mark()}`;
      secret.push(...marks);
    } else {
      outside += 1;
    }
    const response = await edge.fetch('/v1/chat/completions', { body: request });
    const body = await response.text();
    if (onDevice && request.model === 'outside') {
      // Refused, or answered here; never sent.
      assert.ok(response.status === 403 ? JSON.parse(body).error.code === 'privacy_refused' : true, body);
    }
    // A conversation that was ever on_device stays so: its next turn does not say it again.
    if (onDevice && request.privacy === 'on_device') {
      const next = { ...request, messages: [...request.messages] };
      delete next.privacy;
      const m = mark();
      secret.push(m);
      // What was answered, or what the application made of it.
      const answer = response.status !== 200 || chance(0.5) ? 'Fine.' : saidIn(body);
      next.messages.push({ role: 'assistant', content: answer }, { role: 'user', content: `Prove that 17 is prime, ${m}` });
      next.require_high_quality = true;
      if (!next.conversation_id || chance(0.5)) delete next.conversation_id;
      await (await edge.fetch('/v1/chat/completions', { body: next })).text();
    }
  }
  assert.ok(recorder.calls.length >= 5 && outside > 20, `${recorder.calls.length} calls reached the recorder, so it would have seen them`);
  const seen = everywhere();
  for (const word of secret) {
    for (const [where, content] of Object.entries(seen)) {
      assert.ok(!content.includes(word), `${word} of an on_device conversation is in what was ${where} (seed ${seed})`);
    }
  }
});

test('with redacted no planted secret leaves, and the answer has them back', async () => {
  await reload('PREFER_IN_CLOUD', 'any');
  const kinds = [
    () => `${mark()}@example.com`, () => '4111 1111 1111 1111', () => 'DE89 3704 0044 0532 0130 00',
    () => '192.168.17.42', () => `sk-${mark()}${mark()}${mark()}ABCDEFGHIJKLMNOP`, () => '+49 170 1234567', () => 'Zebulon Quux',
  ];
  for (let round = 0; round < 60; round += 1) {
    const planted = Array.from({ length: 1 + Math.floor(random() * 3) }, () => pick(kinds)());
    const sentence = `Please write to ${planted.join(' and to ')} today.`;
    // The outside model repeats what it was told, split at random places.
    behaviour = (call) => {
      const said = call.body.messages.at(-1).content;
      const pieces = [];
      for (let at = 0; at < said.length;) { const n = 1 + Math.floor(random() * 5); pieces.push(said.slice(at, at + n)); at += n; }
      call.answer(...pieces);
    };
    const stream = chance(0.5);
    const response = await edge.fetch('/v1/chat/completions', { body: { model: 'outside', privacy: 'redacted', fallback: false, stream,
      messages: [{ role: 'system', content: `Account of ${planted[0]}` }, { role: 'user', content: sentence }] } });
    const body = await response.text();
    assert.equal(response.status, 200, body);
    const said = stream ? body.split('\n\n').filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? '').join('')
      : JSON.parse(body).choices[0].message.content;
    assert.equal(said, sentence);
    const sent = recorder.calls.at(-1).text;
    for (const word of planted) assert.ok(!sent.includes(word), `${word} was sent: ${sent}`);
  }
});

// The answer reaches the client a moment before the books are closed: 404 says so.
async function receiptOf(id) {
  for (let look = 0; look < 100; look += 1) {
    const response = await edge.fetch(`/v1/receipts/${id}`);
    if (response.status === 200) return response.text();
    assert.equal(response.headers.get('retry-after'), '1');
  }
  throw new Error(`no receipt of ${id}`);
}

test('a receipt says what left, verifies, and does not when a byte is changed', async () => {
  behaviour = (call) => call.answer('noted');
  const response = await edge.fetch('/v1/chat/completions', { body: { model: 'outside', fallback: false,
    messages: [{ role: 'user', content: 'Nothing secret here.' }] } });
  await response.text();
  const id = response.headers.get('x-tandem-request-id');
  const receipt = await receiptOf(id);
  const sent = recorder.calls.at(-1).raw;
  const facts = JSON.parse(receipt);
  assert.equal(facts.request_id, id);
  assert.ok(receipt.includes(createHash('sha256').update(sent).digest('hex')), 'the digest of the bytes that the recorder got');
  assert.ok(receipt.includes(createHash('sha256').update('noted').digest('hex')), 'the digest of the answer');
  assert.ok(!receipt.includes('Nothing secret'));

  const bodyFile = join(config.dir, 'body');
  writeFileSync(bodyFile, sent);
  const verify = (text) => { const file = join(config.dir, 'receipt'); writeFileSync(file, text);
    return run(['receipt', 'verify', file, '--sent-body', bodyFile, '--data-dir', edge.dataDir], { stdio: 'pipe' }); };
  assert.match(verify(receipt), /ok|valid|verified/i);
  for (const at of [5, Math.floor(receipt.length / 2), receipt.length - 10]) {
    const changed = receipt.slice(0, at) + (receipt[at] === 'a' ? 'b' : 'a') + receipt.slice(at + 1);
    assert.throws(() => verify(changed));
  }

  const kept = await edge.fetch('/v1/chat/completions', { body: { model: 'phi-4-mini', privacy: 'on_device', max_tokens: 5,
    messages: [{ role: 'user', content: 'Do you ship to Norway?' }] } });
  await kept.text();
  const local = JSON.parse(await receiptOf(kept.headers.get('x-tandem-request-id')));
  assert.equal(local.privacy, 'on_device');
  assert.ok(local.attempts.every((attempt) => attempt.egress === null), JSON.stringify(local));

  // Somebody else's key does not see it.
  const other = run(['keys', 'create', 'other', '--data-dir', edge.dataDir]).trim().split('\n').at(-1);
  assert.equal((await edge.fetch(`/v1/receipts/${id}`, { key: other })).status, 404);
});
