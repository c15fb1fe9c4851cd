// An answer that breaks is continued by another tier in the same stream.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { Server } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile, upstreams } from './config_file.mjs';

let cloud, breaking, edge, config, client;
let cutAfter = 0;
const question = [{ role: 'user', content: 'How long does shipping take, and what does it cost?' }];

// The first target passes on what another Tandem answers and breaks after `cutAfter` pieces; the
// second target is that other Tandem itself.
before(async () => {
  cloud = await Server.start();
  breaking = await FakeUpstream.start(async (call) => {
    const upstream = await fetch(`${cloud.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${cloud.key}` },
      body: JSON.stringify({ ...call.body, model: 'demo' }),
    });
    call.open();
    let pieces = 0;
    let rest = '';
    for await (const bytes of upstream.body) {
      rest += Buffer.from(bytes).toString('utf8');
      const events = rest.split('\n\n');
      rest = events.pop();
      for (const event of events) {
        const content = event.startsWith('data: {') && JSON.parse(event.slice(6)).choices[0]?.delta?.content;
        if (!content) continue;
        if (pieces++ === cutAfter) return call.cut();
        call.say(content);
      }
    }
    call.finish();
  });
  config = new ConfigFile(`
${upstreams({ breaking: breaking.url }, 'kind = "tandem"')}
${upstreams({ whole: `${cloud.url}/v1` }, 'kind = "tandem"\nupstream_model = "demo"')}
[retry]
max_retries = 0
[breaker]
failures_in_a_row = 100000
min_outcomes = 100000
[[strategy]]
name = "two"
[[strategy.target]]
id = "first"
tier = "cloud"
model = "breaking"
[[strategy.target]]
id = "second"
tier = "cloud"
model = "whole"
[[strategy.rule]]
name = "always"
targets = ["first", "second"]
`);
  edge = await Server.start(['--config', config.path], { TEST_KEY: cloud.key });
  client = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: edge.key, maxRetries: 0 });
});
after(async () => {
  await edge?.stop();
  await breaking?.stop();
  await cloud?.stop();
  config?.remove();
});

// Reads a stream as a strict client: one role, one finish_reason, [DONE] last.
async function readStream(body) {
  const response = await edge.fetch('/v1/chat/completions', { body: { ...body, stream: true,
    stream_options: { include_usage: true }, tandem: true } });
  assert.equal(response.status, 200);
  const seen = { text: '', roles: 0, finishes: [], usage: null, tandem: null, done: false, error: null };
  for (const event of (await response.text()).split('\n\n').filter((line) => line)) {
    assert.ok(event.startsWith('data: '), event);
    assert.ok(!seen.done, 'nothing after [DONE]');
    if (event === 'data: [DONE]') { seen.done = true; continue; }
    const object = JSON.parse(event.slice(6));
    if (object.error) { seen.error = object.error; continue; }
    if (object.usage) seen.usage = object.usage;
    if (object.tandem) seen.tandem = object.tandem;
    const choice = object.choices[0];
    if (!choice) continue;
    if (choice.delta.role) seen.roles += 1;
    seen.text += choice.delta.content ?? '';
    if (choice.finish_reason) seen.finishes.push(choice.finish_reason);
  }
  return seen;
}

test('with the same model on both sides the joined text is that of one side alone, wherever it breaks', async () => {
  const alone = await cloud.fetch('/v1/chat/completions',
    { body: { model: 'demo', messages: question, temperature: 0 } }).then((response) => response.json());
  const expected = alone.choices[0].message.content;
  const n_pieces = alone.usage.completion_tokens;
  for (cutAfter = 0; cutAfter < n_pieces; cutAfter += 1) {
    const seen = await readStream({ model: 'two', messages: question, temperature: 0 });
    assert.equal(seen.text, expected, `cut after ${cutAfter} pieces`);
    assert.equal(seen.roles, 1);
    assert.deepEqual(seen.finishes, ['stop']);
    assert.ok(seen.done);
    const [first, second] = seen.tandem.attempts;
    if (!second) break;  // it ended before it would have broken
    assert.ok(cutAfter < n_pieces - 1);
    assert.equal(second.outcome, 'answered');
    assert.equal(second.target, 'second');
    assert.equal(first.outcome, cutAfter === 0 ? 'failed' : first.text[1] > 0 ? 'handed_off' : 'failed');
    assert.deepEqual(second.text, [first.text[1], Buffer.byteLength(expected)], 'the seam is where the second begins');
    assert.equal(seen.usage.completion_tokens, (first.text[1] > 0 ? first.completion_tokens : 0) + second.completion_tokens);
  }
  assert.ok(cutAfter > 8, `${cutAfter} places to break in: ${expected}`);
});

test('a whole answer is joined as well, and its headers name the tier that the client saw first', async () => {
  cutAfter = 4;
  const { data, response } = await client.chat.completions
    .create({ model: 'two', messages: question, temperature: 0, tandem: true }).withResponse();
  const alone = await cloud.fetch('/v1/chat/completions',
    { body: { model: 'demo', messages: question, temperature: 0 } }).then((answer) => answer.json());
  assert.equal(data.choices[0].message.content, alone.choices[0].message.content);
  assert.equal(data.choices.length, 1);
  assert.equal(response.headers.get('x-tandem-model'), 'breaking');
});

test('where no fallback is allowed the stream ends with an error object and without [DONE]', async () => {
  cutAfter = 4;
  const seen = await readStream({ model: 'two', messages: question, temperature: 0, fallback: false });
  assert.ok(seen.error, 'an error in the stream');
  assert.equal(seen.error.code, 'unavailable');
  assert.deepEqual(seen.finishes, []);
  assert.ok(!seen.done);
});
