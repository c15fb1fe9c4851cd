// The official openai package with nothing but its base URL changed.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { Server } from './server.mjs';

let server, client;
before(async () => {
  server = await Server.start(['--alias', 'phi-4-mini=demo']);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: server.key, maxRetries: 0 });
});
after(async () => { await server?.stop(); });

const ask = (content) => [{ role: 'user', content }];

test('a chat answer has text, a finish reason and usage that adds up', async () => {
  const answer = await client.chat.completions.create({
    model: 'demo', temperature: 0, messages: ask('Do you ship to Singapore?'),
  });
  assert.equal(answer.object, 'chat.completion');
  assert.equal(answer.model, 'demo');
  assert.equal(answer.choices.length, 1);
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.match(answer.choices[0].message.content, /Singapore/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0);
  assert.equal(prompt_tokens + completion_tokens, total_tokens);
});

test('a stream joins to the text of the plain answer and ends with usage', async () => {
  const request = { model: 'demo', temperature: 0, messages: ask('How long does shipping take?') };
  const plain = await client.chat.completions.create(request);
  const stream = await client.chat.completions.create({
    ...request, stream: true, stream_options: { include_usage: true },
  });
  let text = '', finish = [], roles = [], usage, ids = new Set();
  for await (const chunk of stream) {
    ids.add(chunk.id);
    if (chunk.usage) { usage = chunk.usage; assert.deepEqual(chunk.choices, []); continue; }
    const [choice] = chunk.choices;
    if (choice.delta.role) roles.push(choice.delta.role);
    text += choice.delta.content ?? '';
    if (choice.finish_reason) finish.push(choice.finish_reason);
  }
  assert.equal(text, plain.choices[0].message.content);
  assert.deepEqual(finish, ['stop']);
  assert.deepEqual(roles, ['assistant']);
  assert.equal(ids.size, 1);
  assert.equal(usage.completion_tokens, plain.usage.completion_tokens);
  assert.equal(usage.prompt_tokens, plain.usage.prompt_tokens);
});

test('the same seed gives the same text, whatever runs beside it', async () => {
  const request = { model: 'demo', temperature: 1, seed: 7, max_tokens: 24, messages: ask('Hello') };
  const answers = await Promise.all(
    Array.from({ length: 4 }, () => client.chat.completions.create(request)));
  assert.equal(new Set(answers.map((a) => a.choices[0].message.content)).size, 1);
});

test('max_tokens cuts with finish_reason length', async () => {
  const answer = await client.chat.completions.create({
    model: 'demo', temperature: 0, max_tokens: 3, messages: ask('How long does shipping take?'),
  });
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, 3);
});

test('a stop string ends the text before itself', async () => {
  const request = { model: 'demo', temperature: 0, messages: ask('How long does shipping take?') };
  const whole = (await client.chat.completions.create(request)).choices[0].message.content;
  const word = whole.split(' ')[3];
  const cut = await client.chat.completions.create({ ...request, stop: [word] });
  assert.equal(cut.choices[0].message.content, whole.slice(0, whole.indexOf(word)));
  assert.equal(cut.choices[0].finish_reason, 'stop');
});

test('log probabilities come with the tokens of the text', async () => {
  const answer = await client.chat.completions.create({
    model: 'demo', temperature: 0, logprobs: true, top_logprobs: 3, max_tokens: 5,
    messages: ask('Hello'),
  });
  const { content } = answer.choices[0].logprobs;
  assert.equal(content.length, answer.usage.completion_tokens);
  for (const item of content) {
    assert.ok(item.logprob <= 0);
    assert.equal(item.top_logprobs.length, 3);
    assert.equal(item.top_logprobs[0].logprob, item.logprob, 'greedy takes the most probable token');
  }
});

test('an aborted stream leaves a server that goes on answering', async () => {
  const stream = await client.chat.completions.create({
    model: 'demo', temperature: 1, stream: true, max_tokens: 400, logit_bias: {},
    messages: ask('How long does shipping take?'),
  });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) { stream.controller.abort(); break; }
  }
  const answer = await client.chat.completions.create({
    model: 'demo', max_tokens: 2, messages: ask('Hello'),
  });
  assert.equal(answer.usage.completion_tokens, 2);
});

test('models are listed and looked up', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('demo'));
  assert.ok(ids.includes('phi-4-mini'), 'the alias answers, so it is listed');
  assert.equal((await client.models.retrieve('demo')).id, 'demo');
});

test('an alias answers and names the model behind it', async () => {
  const { data, response } = await client.chat.completions.create({
    model: 'phi-4-mini', temperature: 0, max_tokens: 2, messages: ask('Hello'),
  }).withResponse();
  assert.equal(data.model, 'demo');
  assert.equal(response.headers.get('x-tandem-model'), 'demo');
  assert.ok(response.headers.get('x-request-id'));
  assert.ok(response.headers.get('x-tandem-tier'));
  assert.ok(response.headers.get('x-tandem-route-reason'));
});

test('a wrong key is an AuthenticationError', async () => {
  const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
  await assert.rejects(stranger.models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.status, 401);
    assert.equal(error.code, 'invalid_api_key');
    return true;
  });
});

test('an unknown model is a NotFoundError with model_not_found', async () => {
  await assert.rejects(
    client.chat.completions.create({ model: 'gpt-99', messages: ask('Hi') }),
    (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, 'model_not_found');
      return true;
    });
});

test('a known model that is not installed says how to install it', async () => {
  await assert.rejects(
    client.chat.completions.create({ model: 'mimo-7b', messages: ask('Hi'), fallback: false }),
    (error) => {
      assert.equal(error.status, 409);
      assert.equal(error.code, 'model_not_installed');
      assert.match(error.message, /tandem pull mimo-7b/);
      return true;
    });
});

test('a wrong type is a BadRequestError that names the field', async () => {
  await assert.rejects(
    client.chat.completions.create({ model: 'demo', temperature: 'hot', messages: ask('Hi') }),
    (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'temperature');
      return true;
    });
});

test('a prompt that does not fit is refused with the figures, never cut', async () => {
  await assert.rejects(
    client.chat.completions.create({ model: 'demo', messages: ask('word '.repeat(20000)) }),
    (error) => {
      assert.equal(error.status, 400);
      assert.equal(error.code, 'context_length_exceeded');
      assert.match(error.message, /\d{4,}/);
      return true;
    });
});
