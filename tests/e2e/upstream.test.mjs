// Two Tandem processes on loopback: one is the other's cloud.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { Server } from './server.mjs';

let cloud, edge, client;
before(async () => {
  cloud = await Server.start();
  edge = await Server.start(['--alias', 'smart=demo-cloud', '--upstream', `demo-cloud=${cloud.url}/v1`,
    '--upstream', 'nowhere=http://127.0.0.1:9/v1'],
  { TANDEM_UPSTREAM_KEY_DEMO_CLOUD: cloud.key });
  client = new OpenAI({ baseURL: `${edge.url}/v1`, apiKey: edge.key, maxRetries: 0 });
});
after(async () => { await edge?.stop(); await cloud?.stop(); });

const messages = [{ role: 'user', content: 'How long does shipping take?' }];

test('the upstream\'s model name is what was configured, and an unknown one there is unavailable here', async () => {
  await assert.rejects(client.chat.completions.create({ model: 'demo-cloud', messages }), (error) => {
    assert.equal(error.status, 503);
    assert.match(error.message, /no such model/);
    return true;
  });
});

test('a request that must stay on the device is refused before anything is sent', async () => {
  for (const demand of [{ force_local_inference: true }, { local_inference: true }, { privacy: 'on_device' }]) {
    // A question of its own: whoever asks it again, asks it of the device (docs/privacy.md).
    const kept = [{ role: 'user', content: `Where is the parcel of ${Object.keys(demand)[0]}?` }];
    await assert.rejects(client.chat.completions.create({ model: 'nowhere', messages: kept, ...demand }), (error) => {
      assert.equal(error.status, 403, JSON.stringify(demand));
      assert.equal(error.code, 'privacy_refused');
      return true;
    });
  }
});

test('an upstream that is not there is unavailable, and the device still answers', async () => {
  await assert.rejects(client.chat.completions.create({ model: 'nowhere', messages }), { status: 503 });
  const local = await client.chat.completions.create({ model: 'demo', messages, temperature: 0 });
  assert.ok(local.choices[0].message.content.length > 0);
});

test('the same model gives the same text through the cloud as alone, streamed and whole', async () => {
  const relay = await Server.start(['--upstream', `cloud=${cloud.url}/v1`, '--upstream-model', 'cloud=demo'],
    { TANDEM_UPSTREAM_KEY: cloud.key });
  try {
    const through = new OpenAI({ baseURL: `${relay.url}/v1`, apiKey: relay.key, maxRetries: 0 });
    const local = await client.chat.completions.create({ model: 'demo', messages, temperature: 0 });
    const { data: whole, response } = await through.chat.completions
      .create({ model: 'cloud', messages, temperature: 0 }).withResponse();
    assert.equal(whole.choices[0].message.content, local.choices[0].message.content);
    assert.deepEqual({ ...whole.usage, prompt_tokens_details: undefined },
      { ...local.usage, prompt_tokens_details: undefined });
    assert.equal(response.headers.get('x-tandem-tier'), 'cloud');
    let text = '';
    const stream = await through.chat.completions.create({ model: 'cloud', messages, temperature: 0, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
    assert.equal(text, local.choices[0].message.content);
  } finally {
    await relay.stop();
  }
});

test('the provider\'s key is in no log and no answer', async () => {
  const wrong = await Server.start(['--log-level', 'debug', '--upstream', `cloud=${cloud.url}/v1`],
    { TANDEM_UPSTREAM_KEY: 'sk-this-is-not-a-key' });
  try {
    const response = await wrong.fetch('/v1/chat/completions', { body: { model: 'cloud', messages } });
    assert.equal(response.status, 502);
    const text = await response.text();
    assert.match(text, /does not accept the key/);
    assert.ok(!text.includes('sk-this'));
    assert.ok(!wrong.log.includes('sk-this'));
  } finally {
    await wrong.stop();
  }
});

test('no prompt and no answer is in a log, even at the finest level', async () => {
  const verbose = await Server.start(['--log-level', 'debug']);
  const secret = 'Kaffeemaschine-4711';
  const response = await verbose.fetch('/v1/chat/completions',
    { body: { model: 'demo', temperature: 0, messages: [{ role: 'user', content: `What about ${secret}?` }] } });
  const answer = (await response.json()).choices[0].message.content;
  await verbose.stop();
  assert.ok(verbose.log.length > 0, 'it does log something');
  assert.ok(!verbose.log.includes(secret));
  assert.ok(!verbose.log.includes(answer));
});
