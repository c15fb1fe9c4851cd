// A cloud model, or the one on the device, falls into a loop at any place of its answer; another Tandem,
// which is the next tier's provider, goes on with it. The client gets the whole answer, once.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { Server } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile, upstreams } from './config_file.mjs';

// Words in an order that repeats nothing for long.
function words(list, n, space) {
  let state = 7;
  return Array.from({ length: n }, (_, i) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (i > 0 ? space : '') + list[state % list.length];
  });
}
const split = (text, n) => text.match(new RegExp(`[^]{1,${n}}`, 'gu'));
const rows = Array.from({ length: 40 }, (_, i) => ({ id: (i * 37) % 100, name: `n${i * i}`, tags: [`t${i}`, i % 3 === 0] }));
const alphabet = (from, n) => Array.from({ length: n }, (_, i) => String.fromCodePoint(from + i));

const texts = {
  'plain text': { pieces: words('river hill town mile sea summer child knee snow night bridge sand bag door book flood boat apple tree house bank week April city garden winter roof cat'.split(' '), 220, ' ') },
  JSON: { pieces: split(JSON.stringify({ rows }), 5) },
  'tool call': { pieces: split(JSON.stringify({ rows }), 5), call: true,
    body: { tools: [{ type: 'function', function: { name: 'store', parameters: { type: 'object' } } }] } },
  Russian: { pieces: words('река холм город миля море лето колено снег ночь мост песок мешок дверь книга лодка яблоня дом берег неделя апрель зима крыша кошка термос'.split(' '), 220, ' ') },
  Chinese: { pieces: words(alphabet(0x4e00, 300), 220, '') },
  Thai: { pieces: words('แม่น้ำ เนินเขา เมือง ทะเล ฤดูร้อน เด็ก เข่า หิมะ คืน สะพาน ทราย ประตู หนังสือ น้ำท่วม เรือ ต้นไม้ บ้าน ฝั่ง สัปดาห์ เมษายน สวน หลังคา แมว'.split(' '), 220, '') },
};
const lengths = [1, 2, 3, 5, 8, 13, 21, 34];

const delta = (fields) => `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm',
  choices: [{ index: 0, delta: fields, finish_reason: null }] })}\n\n`;
const fragment = (text, first) => delta({ tool_calls: [{ index: 0, ...(first ? { id: 'call_1', type: 'function' } : {}),
  function: { ...(first ? { name: 'store' } : {}), arguments: text } }] });
const wishOf = (body) => JSON.parse(body.messages.find((message) => message.role === 'user').content);

let looping, writer, cloud, edge, files = [];
before(async () => {
  // The last pieces before the k-th again and again, until somebody has had enough.
  looping = await FakeUpstream.start((call) => {
    const { name, k } = wishOf(call.body);
    const { pieces, call: asCall } = texts[name];
    const period = Math.min(k, lengths[k % lengths.length]);
    const said = pieces.slice(0, k);
    while (said.length < k + 700) said.push(pieces[k - period + (said.length - k) % period]);
    call.open().raw_event(said.map((piece, i) => (asCall ? fragment(piece, i === 0) : delta({ content: piece }))).join(''));
  });
  // Writes the rest of what it is given the beginning of.
  writer = await FakeUpstream.start((call) => {
    const { pieces, call: asCall } = texts[wishOf(call.body).name];
    const whole = pieces.join('');
    const last = call.body.messages.at(-1);
    const said = last.role === 'assistant' ? last.content : '';
    if (!whole.startsWith(said)) return call.fail(400, { message: `is no beginning: ${said}`, code: 'x' });
    const rest = split(whole.slice(said.length), 4) ?? [];
    call.open().raw_event(rest.map((piece, i) => (asCall ? fragment(piece, i === 0) : delta({ content: piece }))).join(''));
    call.finish({ prompt_tokens: 9, completion_tokens: rest.length, total_tokens: 9 + rest.length }, asCall ? 'tool_calls' : 'stop');
  });
  const limits = '\n[retry]\nmax_retries = 0\n[breaker]\nfailures_in_a_row = 100000\nmin_outcomes = 100000\n';
  files.push(new ConfigFile(`${upstreams({ whole: writer.url }, 'kind = "tandem"')}${limits}`));
  cloud = await Server.start(['--config', files[0].path], { TEST_KEY: 'sk-test' });
  const strategy = (name, tier, model) => `
[[strategy]]
name = "${name}"
[[strategy.target]]
id = "${name}-first"
tier = "${tier}"
model = "${model}"
[[strategy.target]]
id = "${name}-second"
tier = "cloud"
model = "whole"
[[strategy.rule]]
name = "always"
targets = ["${name}-first", "${name}-second"]
`;
  files.push(new ConfigFile(`${upstreams({ looping: looping.url, whole: `${cloud.url}/v1` }, 'kind = "tandem"\nbetween_tokens_timeout_ms = 60000')}
${limits}${strategy('two', 'cloud', 'looping')}${strategy('device', 'device_small', 'demo')}`));
  edge = await Server.start(['--config', files[1].path], { TEST_KEY: cloud.key });
});
after(async () => {
  await edge?.stop();
  await cloud?.stop();
  await looping?.stop();
  await writer?.stop();
  for (const file of files) file.remove();
});

// As a strict client reads a stream: one role, one finish_reason, [DONE] last and once.
async function ask(model, name, k, fields = {}) {
  const response = await edge.fetch('/v1/chat/completions', { body: { model, stream: true, tandem: true,
    stream_options: { include_usage: true }, messages: [{ role: 'user', content: JSON.stringify({ name, k }) }], ...texts[name].body, ...fields } });
  const body = await response.text();
  assert.equal(response.status, 200, body);
  const seen = { text: '', calls: [], roles: 0, finishes: [], usage: null, tandem: null };
  const events = body.split('\n\n').filter((line) => line);
  assert.equal(events.pop(), 'data: [DONE]', body.slice(-500));
  for (const event of events) {
    assert.ok(event.startsWith('data: {'), event);
    const object = JSON.parse(event.slice(6));
    assert.equal(object.error, undefined, event);
    seen.usage = object.usage ?? seen.usage;
    seen.tandem = object.tandem ?? seen.tandem;
    const choice = object.choices[0];
    if (!choice) continue;
    if (choice.delta.role) seen.roles += 1;
    seen.text += choice.delta.content ?? '';
    seen.calls.push(...(choice.delta.tool_calls ?? []));
    if (choice.finish_reason) seen.finishes.push(choice.finish_reason);
  }
  return seen;
}

function check(seen, name, where) {
  const { pieces, call } = texts[name];
  const whole = pieces.join('');
  assert.equal(seen.text, call ? '' : whole, where);
  assert.deepEqual(seen.calls.map((one) => [one.function.name, one.function.arguments]), call ? [['store', whole]] : [], where);
  if (name === 'JSON') assert.deepEqual(JSON.parse(seen.text), { rows });
  assert.equal(seen.roles, 1, where);
  assert.deepEqual(seen.finishes, [call ? 'tool_calls' : 'stop'], where);
  const [first, second] = seen.tandem.attempts;
  assert.equal(seen.tandem.attempts.length, 2, where);
  const shown = first.text[1] - first.text[0];
  assert.deepEqual([first.code, first.outcome, second.outcome],
    ['OUTPUT_VALIDATION_FAILED', shown > 0 ? 'handed_off' : 'failed', 'answered'], where);
  assert.equal(seen.usage.completion_tokens, (shown > 0 ? first.completion_tokens : 0) + second.completion_tokens, where);
  return shown;
}

for (const name of Object.keys(texts)) {
  test(`${name}: a cloud model that loops from the k-th token on, for every k from 1 to 200`, { timeout: 300_000 }, async () => {
    assert.ok(texts[name].pieces.length > 200);
    let handedOff = 0;
    let next = 0;
    const worker = async () => {
      while (next < 200) {
        const k = (next += 1);
        if (check(await ask('two', name, k), name, `${name}, from ${k} on`) > 0) handedOff += 1;
      }
    };
    await Promise.all([worker(), worker(), worker(), worker()]);
    // What the client has seen is continued; a call is not seen before it is whole, so it is written anew.
    assert.ok(name === 'tool call' ? handedOff === 0 : handedOff > 150, `${handedOff} handed off`);
    await Promise.all(looping.calls.map((call) => call.closed));
    assert.ok(looping.calls.every((call) => call.aborted), 'every looping call was cancelled');
    looping.calls.length = 0;
  });
}
