// What plain HTTP clients see: curl, line readers, hostile bodies, signals.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { connect } from 'node:net';
import { once } from 'node:events';
import { Server, run, tandem } from './server.mjs';

let server;
before(async () => { server = await Server.start(); });
after(async () => { await server?.stop(); });

const hello = { model: 'demo', temperature: 0, messages: [{ role: 'user', content: 'Hello' }] };

test('curl gets an answer', () => {
  const out = execFileSync('curl', [
    '-sS', '--fail-with-body', `${server.url}/v1/chat/completions`,
    '-H', `Authorization: Bearer ${server.key}`, '-H', 'Content-Type: application/json',
    '-d', JSON.stringify(hello),
  ], { encoding: 'utf8' });
  assert.ok(JSON.parse(out).choices[0].message.content.length > 0);
});

test('health, readiness and version need no key; everything under /v1 does', async () => {
  for (const path of ['/healthz', '/readyz', '/version']) {
    assert.equal((await server.fetch(path, { key: null })).status, 200, path);
  }
  for (const path of ['/v1/models', '/v1/device/memory-status']) {
    const response = await server.fetch(path, { key: null });
    assert.equal(response.status, 401, path);
    assert.equal((await response.json()).error.code, 'invalid_api_key');
  }
});

test('memory status has the contract\'s figures', async () => {
  await (await server.fetch('/v1/chat/completions', { body: hello })).json();
  const status = await (await server.fetch('/v1/device/memory-status')).json();
  for (const field of ['available_mb', 'total_mb', 'limit_mb', 'weights_mb', 'kv_cache_mb']) {
    assert.equal(typeof status[field], 'number', field);
  }
  assert.ok(status.total_mb > status.available_mb && status.available_mb > 0);
  assert.ok(status.weights_mb > 0, 'the demo model is loaded by now');
});

test('/v1/chat/streaming: every non-empty line is data: and JSON, done comes last', async () => {
  const response = await server.fetch('/v1/chat/streaming', {
    body: { ...hello, stream: true, memory_optimized: true },
  });
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  const lines = (await response.text()).split('\n').filter((line) => line !== '');
  const events = lines.map((line) => {
    assert.ok(line.startsWith('data: '), line);
    return JSON.parse(line.slice('data: '.length));
  });
  assert.equal(events.at(-1).done, true);
  assert.equal(events.filter((event) => event.done).length, 1);
  const text = events.map((event) => event.content ?? '').join('');
  const plain = await (await server.fetch('/v1/chat/completions', { body: hello })).json();
  assert.equal(text, plain.choices[0].message.content);
});

test('an OpenAI stream ends with [DONE]', async () => {
  const response = await server.fetch('/v1/chat/completions', { body: { ...hello, stream: true } });
  const lines = (await response.text()).split('\n').filter((line) => line !== '');
  assert.equal(lines.at(-1), 'data: [DONE]');
});

const rejected = [
  ['not JSON', '{"model": ', 400, null],
  ['not an object', '[]', 400, null],
  ['deep nesting', '['.repeat(100000), 400, null],
  ['no messages', { model: 'demo' }, 400, 'messages'],
  ['empty messages', { model: 'demo', messages: [] }, 400, 'messages'],
  ['no model', { messages: hello.messages }, 400, 'model'],
  ['messages of the wrong type', { model: 'demo', messages: 'Hi' }, 400, 'messages'],
  ['content of the wrong type', { model: 'demo', messages: [{ role: 'user', content: 5 }] }, 400, 'messages[0].content'],
  ['unknown role', { model: 'demo', messages: [{ role: 'king', content: 'x' }] }, 400, 'messages[0].role'],
  ['temperature out of range', { ...hello, temperature: 3 }, 400, 'temperature'],
  ['stream of the wrong type', { ...hello, stream: 'yes' }, 400, 'stream'],
  ['negative max_tokens', { ...hello, max_tokens: -1 }, 400, 'max_tokens'],
  ['stop of the wrong type', { ...hello, stop: [1] }, 400, 'stop'],
];
for (const [name, body, status, param] of rejected) {
  test(`bad body: ${name}`, async () => {
    const response = await server.fetch('/v1/chat/completions', { body });
    assert.equal(response.status, status);
    const { error } = await response.json();
    assert.equal(error.type, 'invalid_request_error');
    assert.ok(error.message.length > 10);
    if (param) assert.ok(error.param?.startsWith(param), `param is ${error.param}`);
  });
}

test('bad body: invalid UTF-8', async () => {
  const body = Buffer.concat([Buffer.from('{"model":"demo","messages":[{"role":"user","content":"'),
    Buffer.from([0xff, 0xfe]), Buffer.from('"}]}')]);
  const response = await server.fetch('/v1/chat/completions', { body });
  assert.equal(response.status, 400);
  assert.match((await response.json()).error.message, /UTF-8/);
});

test('a body of 20 MB is 413, one of 10 MB is read and judged', async () => {
  const big = await server.fetch('/v1/chat/completions', { body: 'x'.repeat(20 << 20) })
    .catch((error) => error);  // the server may close before all of it is sent
  if (big.status !== undefined) assert.equal(big.status, 413);
  const ten = await server.fetch('/v1/chat/completions', { body: ' '.repeat(10 << 20) });
  assert.equal(ten.status, 400);
});

test('unknown fields are ignored', async () => {
  const response = await server.fetch('/v1/chat/completions', {
    body: { ...hello, max_tokens: 2, flux_capacitor: { level: 11 } },
  });
  assert.equal(response.status, 200);
});

test('unknown paths and wrong methods answer in OpenAI\'s error shape', async () => {
  const missing = await server.fetch('/v1/nothing');
  assert.equal(missing.status, 404);
  assert.ok((await missing.json()).error.message);
  const wrong = await server.fetch('/v1/chat/completions');
  assert.equal(wrong.status, 405);
  assert.ok((await wrong.json()).error.message);
});

test('bytes that are not HTTP get 400, and the server lives on', async () => {
  const socket = connect(server.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.write('\x16\x03\x01 this is not HTTP\r\n\r\n');
  let answer = '';
  socket.on('data', (data) => { answer += data; });
  await once(socket, 'close');
  assert.match(answer, /^HTTP\/1\.1 400 /);
  assert.equal((await server.fetch('/healthz')).status, 200);
});

test('a client that leaves cancels its generation', async () => {
  // The biased token never ends a turn, so without the cancel this would run to the context's end.
  const controller = new AbortController();
  const response = await server.fetch('/v1/chat/completions', {
    body: { ...hello, stream: true, temperature: 1, max_tokens: 3000 }, signal: controller.signal,
  });
  const reader = response.body.getReader();
  await reader.read();
  controller.abort();
  const status = await (await server.fetch('/v1/chat/completions', { body: { ...hello, max_tokens: 1 } })).json();
  assert.equal(status.usage.completion_tokens, 1);
});

test('SIGTERM lets the running answer finish and exits 0', async () => {
  const other = await Server.start();
  const response = await other.fetch('/v1/chat/completions', { body: { ...hello, stream: true } });
  other.process.kill('SIGTERM');
  const text = await response.text();
  assert.ok(text.trimEnd().endsWith('data: [DONE]'));
  assert.deepEqual(await other.stop(), { code: 0, signal: null });
});

test('a public address without any key is refused before it listens', () => {
  assert.throws(
    () => run(['serve', '--listen', '0.0.0.0:0', '--data-dir', `${server.dataDir}/empty`], { stdio: 'pipe' }),
    (error) => {
      assert.notEqual(error.status, 0);
      assert.match(error.stderr, /tandem keys create/);
      return true;
    });
});

test('a revoked key stops working', async () => {
  const args = ['--data-dir', server.dataDir];
  const key = run(['keys', 'create', 'short-lived', ...args]).trim().split('\n').at(-1);
  assert.equal((await server.fetch('/v1/models', { key })).status, 200);
  const listed = JSON.parse(run(['keys', 'list', '--json', ...args]));
  const { id } = listed.find((row) => row.name === 'short-lived');
  assert.ok(!JSON.stringify(listed).includes(key), 'a listing never shows a key');
  run(['keys', 'revoke', id, ...args]);
  const deadline = Date.now() + 5000;
  let status;
  do { status = (await server.fetch('/v1/models', { key })).status; } while (status === 200 && Date.now() < deadline);
  assert.equal(status, 401);
});
