// Every way in which an upstream fails, before and after the first text, streamed or not, with a
// fallback or without: what the client gets, what is recorded, what the breaker counts.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { Server, run } from './server.mjs';
import { FakeUpstream } from './fake_upstream.mjs';
import { ConfigFile, upstreams } from './config_file.mjs';

const good = ['The ', 'parcel ', 'left ', 'our ', 'house ', 'this ', 'morning.'];
// A model that sticks at its last word.
const stuck = (word) => Array(200).fill(word);

// before: what happens instead of an answer; after: what happens behind the pieces `good`.
//   code, status  of the error where nobody else may answer
//   record        why, in the attempt's record
//   breaker       whether the target's breaker counts it
//   cancels       whether the upstream would go on and is told to stop
const unfinished = 'data: {"choices":[{"index":0,\n\n';
const inBand = 'data: {"error":{"message":"overloaded","type":"server_error","code":"x"}}\n\n';
const faults = {
  refused_500: { before: (c) => c.fail(500),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: false },
  refused_503_retry_after: { before: (c) => c.fail(503, undefined, { 'Retry-After': '30' }),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: false },
  rate_limited: { before: (c) => c.fail(429, undefined, { 'Retry-After': '30' }),
    code: 'rate_limit_exceeded', status: 429, record: 'rate_limited', breaker: false, cancels: false },
  rate_limited_without_time: { before: (c) => c.fail(429),
    code: 'rate_limit_exceeded', status: 429, record: 'rate_limited', breaker: false, cancels: false },
  quota_spent: { before: (c) => c.fail(429, { message: 'You exceeded your current quota', type: 'insufficient_quota', code: 'insufficient_quota' }),
    code: 'upstream_quota_exhausted', status: 503, record: 'quota_exhausted', breaker: false, cancels: false },
  payment_required: { before: (c) => c.fail(402),
    code: 'upstream_quota_exhausted', status: 503, record: 'quota_exhausted', breaker: false, cancels: false },
  key_rejected: { before: (c) => c.fail(401),
    code: 'upstream_credential_rejected', status: 502, record: 'credential_rejected', breaker: false, cancels: false },
  empty_200: { before: (c) => { c.open(); c.finish({ prompt_tokens: 7, completion_tokens: 0, total_tokens: 7 }); },
    code: 'OUTPUT_VALIDATION_FAILED', status: 502, record: 'output_validation_failed', breaker: false, cancels: false },
  no_body: { before: (c) => { c.response.writeHead(200, { 'Content-Type': 'text/event-stream' }); c.response.end(); },
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: false },
  not_an_api: { before: (c) => { c.response.writeHead(200, { 'Content-Type': 'text/html' }); c.response.end('<html>Welcome</html>'); },
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: false },
  hangs: { before: () => {},
    code: 'deadline_exceeded', status: 504, record: 'deadline_exceeded', breaker: true, cancels: true },
  stall: { after: () => {},
    code: 'deadline_exceeded', status: 504, record: 'deadline_exceeded', breaker: true, cancels: true },
  cut: { before: (c) => c.cut(), after: (c) => c.cut(),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: 'cut by itself' },
  malformed_chunk: { before: (c) => c.open().raw_event(unfinished), after: (c) => c.raw_event(unfinished),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: true },
  error_event: { before: (c) => c.open().raw_event(inBand), after: (c) => c.raw_event(inBand),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: true },
  end_without_reason: { after: (c) => c.response.end(),
    code: 'unavailable', status: 503, record: 'unavailable', breaker: true, cancels: false },
  degenerate: { after: (c, word) => c.say(...stuck(word)),
    code: 'OUTPUT_VALIDATION_FAILED', status: 502, record: 'output_validation_failed', breaker: false, cancels: true },
};

let broken, spare, edge, config, admin;
let current = null;  // the fault of the next call of the first target

before(async () => {
  broken = await FakeUpstream.start((call) => {
    const { fault, when } = current;
    if (when === 'before') return fault.before(call);
    call.open().say(...good.slice(0, 4));
    setImmediate(() => fault.after(call, 'our '));
  });
  // Goes on where a prefix ends.
  spare = await FakeUpstream.start((call) => {
    const last = call.body.messages.at(-1);
    const said = last.role === 'assistant' && last.prefix ? last.content : '';
    assert.ok(good.join('').startsWith(said), said);
    call.answer(good.join('').slice(said.length));
  });
  config = new ConfigFile(text(1));
  edge = await Server.start(['--config', config.path, '--log-level', 'debug'], { TEST_KEY: 'sk-test' });
  admin = run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', edge.dataDir]).trim().split('\n').at(-1);
});
after(async () => {
  await edge?.stop();
  await broken?.stop();
  await spare?.stop();
  config?.remove();
});

// Each version has targets of other names, whose breakers are new.
// Only what is to time out may: on a slow machine the others take as long as they take.
function text(version, timeoutMs = 60_000) {
  return `
${upstreams({ broken: broken.url }, `kind = "tandem"\nfirst_token_timeout_ms = ${timeoutMs}\nbetween_tokens_timeout_ms = ${timeoutMs}`)}
${upstreams({ spare: spare.url }, 'kind = "tandem"')}
[retry]
max_retries = 0
[breaker]
failures_in_a_row = 100000
min_outcomes = 1
error_threshold = 0.99
[[strategy]]
name = "pair"
[[strategy.target]]
id = "broken${version}"
tier = "cloud"
model = "broken"
[[strategy.target]]
id = "spare${version}"
tier = "cloud"
model = "spare"
[[strategy.rule]]
name = "always"
targets = ["broken${version}", "spare${version}"]
`;
}
const call = (path, options = {}) => edge.fetch(`/v1/admin/${path}`, { key: admin, ...options });

let version = 1;
for (const [name, fault] of Object.entries(faults)) {
  for (const when of ['before', 'after']) {
    if (!fault[when]) continue;
    for (const stream of [false, true]) {
      for (const fallback of [false, true]) {
        test(`${name} ${when} the first text, ${stream ? 'streamed' : 'whole'}, ${fallback ? 'with' : 'without'} a fallback`, async () => {
          version += 1;
          config.write(text(version, ['hangs', 'stall'].includes(name) ? 150 : 60_000));
          assert.equal((await call('config/reload', { method: 'POST', body: '' })).status, 200);
          current = { fault, when };
          const before = { broken: broken.calls.length, spare: spare.calls.length };
          const response = await edge.fetch('/v1/chat/completions', { body: {
            model: 'pair', messages: [{ role: 'user', content: 'Where is my parcel?' }], stream, fallback, tandem: true } });
          const body = await response.text();
          const id = response.headers.get('x-tandem-request-id');

          // The client: the whole good text once, or an error and no sign of a complete answer.
          if (fallback) {
            assert.equal(response.status, 200, body);
            const events = body.split('\n\n').filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)));
            const said = stream ? events.map((event) => event.choices[0]?.delta?.content ?? '').join('')
              : JSON.parse(body).choices[0].message.content;
            assert.equal(said, good.join(''));
            if (stream) {
              assert.equal(events.filter((event) => event.choices[0]?.finish_reason).length, 1);
              assert.ok(body.endsWith('data: [DONE]\n\n'));
            }
          } else if (stream && when === 'after') {
            assert.equal(response.status, 200);
            assert.ok(!body.includes('[DONE]') && !body.includes('"finish_reason":"stop"'), body);
            assert.equal(JSON.parse(body.split('\n\n').filter((line) => line).at(-1).slice(6)).error.code, fault.code);
          } else {
            assert.equal(response.status, fault.status, body);
            assert.equal(JSON.parse(body).error.code, fault.code);
            if (fault.status === 429) assert.match(response.headers.get('retry-after'), /^\d+$/);
          }

          // The upstreams: one call each; one that would go on is told to stop.
          assert.equal(broken.calls.length, before.broken + 1);
          assert.equal(spare.calls.length, before.spare + (fallback ? 1 : 0));
          const asked = broken.calls.at(-1);
          await asked.closed;
          if (typeof fault.cancels === 'boolean') assert.equal(asked.aborted, fault.cancels, 'cancels upstream');

          // The record: exactly one, with both attempts.
          const record = await call(`usage/${id}`).then((answer) => answer.json());
          const [first, second] = record.attempts;
          assert.equal(record.attempts.length, fallback ? 2 : 1);
          assert.deepEqual([record.outcome, record.failed, record.client_gone],
            fallback ? ['stop', false, false] : [fault.record, true, false]);
          // Handed off is what the client has seen some of, and somebody went on with.
          const seen = first.text_end > first.text_begin;
          assert.deepEqual([first.target, first.failure, first.outcome],
            [`broken${version}`, fault.record, fallback && seen ? 'handed_off' : 'failed']);
          assert.equal(seen, when === 'after' && (stream || first.text_end > 0));
          if (fallback) assert.deepEqual([second.target, second.failure, second.outcome], [`spare${version}`, null, 'answered']);
          assert.equal(first.egress.sha256.length, 64);

          // The breaker.
          const targets = (await call('targets').then((answer) => answer.json())).targets;
          const share = targets.find((target) => target.target === `broken${version}`).failure_share;
          assert.equal(share, fault.breaker ? 1 : 0, `failure share of ${JSON.stringify(first)}`);
        });
      }
    }
  }
}

// The client leaves: before or after the first text, streamed or not, with a fallback or without, it is
// the same. The upstream is told to stop, nobody else is asked, and no breaker counts it.
for (const when of ['before', 'after']) {
  for (const stream of [false, true]) {
    for (const fallback of [false, true]) {
      test(`client_gone ${when} the first text, ${stream ? 'streamed' : 'whole'}, ${fallback ? 'with' : 'without'} a fallback`, async () => {
        version += 1;
        config.write(text(version));
        assert.equal((await call('config/reload', { method: 'POST', body: '' })).status, 200);
        const leaving = new AbortController();
        let asked;
        const arrived = new Promise((resolve) => {
          current = { when: 'before', fault: { before: (c) => {
            asked = c;
            if (when === 'after') c.open().say(...good.slice(0, 4));
            resolve();
          } } };
        });
        const spares = spare.calls.length;
        const answer = edge.fetch('/v1/chat/completions', { signal: leaving.signal, headers: { 'x-request-id': `gone-${version}` },
          body: { model: 'pair', messages: [{ role: 'user', content: 'Where is my parcel?' }], stream, fallback } });
        await arrived;
        if (stream && when === 'after') {  // it has seen some of it
          const reader = (await answer).body.getReader();
          await reader.read();
        }
        leaving.abort();
        await answer.catch(() => {});
        // A client that has read all looks like one that only ended its own side, until it is written to.
        for (let i = 0; stream && when === 'after' && !asked.aborted; i += 1) {
          asked.say(`word${i} `);
          await Promise.race([asked.closed, new Promise((resolve) => { setImmediate(resolve); })]);
        }
        await asked.closed;
        assert.ok(asked.aborted, 'cancels upstream');
        assert.equal(spare.calls.length, spares);
        let found;
        while (!found) {
          const listed = run(['usage', 'list', '--limit', '5', '--json', '--data-dir', edge.dataDir]);
          found = JSON.parse(listed).records.find((one) => one.client_request_id === `gone-${version}`);
        }
        found = await call(`usage/${found.request_id}`).then((record) => record.json());
        assert.deepEqual([found.outcome, found.client_gone, found.attempts.length, found.attempts[0].outcome],
          ['cancelled', true, 1, 'cancelled']);
        const targets = (await call('targets').then((list) => list.json())).targets;
        assert.equal(targets.find((target) => target.target === `broken${version}`).failure_share, 0);
      });
    }
  }
}

test('thousands of requests at once against upstreams that fail in all these ways', { timeout: 600_000 }, async () => {
  const total = Number(process.env.TANDEM_FAULT_REQUESTS ?? 20_000);
  const kinds = Object.keys(faults).filter((name) => !['hangs', 'stall'].includes(name));
  // Every request has its own number in its question; every answer repeats it.
  const numberOf = (body) => body.messages.find((message) => message.role === 'user').content.match(/#(\d+)#/)[1];
  broken.behave = (call) => {
    const number = Number(numberOf(call.body));
    const fault = faults[kinds[number % kinds.length]];
    const timesOut = number % 997 === 0;
    if (timesOut) return;
    if (number % 5 === 0) return call.answer(`answer to ${number}, `, 'all of it.');
    if (fault.before && (number % 2 === 0 || !fault.after)) return fault.before(call);
    call.open().say(`answer to ${number}, `);
    setImmediate(() => fault.after(call, 'all '));
  };
  spare.behave = (call) => {
    const last = call.body.messages.at(-1);
    const said = last.role === 'assistant' && last.prefix ? last.content : '';
    const whole = `answer to ${numberOf(call.body)}, all of it.`;
    if (!whole.startsWith(said)) return call.fail(500);
    call.answer(whole.slice(said.length));
  };
  config.write(text('mix', 1000));  // one that answers later is replaced like one that hangs
  assert.equal((await call('config/reload', { method: 'POST', body: '' })).status, 200);
  broken.calls = { push() {}, length: 0 };
  spare.calls = { push() {}, length: 0 };

  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const ask = (number, abandon) => new Promise((resolve) => {
    const request = httpRequest(`${edge.url}/v1/chat/completions`, { method: 'POST', agent,
      headers: { Authorization: `Bearer ${edge.key}`, 'Content-Type': 'application/json' } }, (response) => {
      let body = '';
      if (abandon) { response.destroy(); return resolve('abandoned'); }
      response.on('data', (bytes) => { body += bytes; });
      response.on('end', () => {
        if (response.statusCode === 429) return resolve('busy');
        const whole = `answer to ${number}, all of it.`;
        const said = number % 3 === 0
          ? body.split('\n\n').filter((line) => line.startsWith('data: {"id')).map((line) => JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? '').join('')
          : JSON.parse(body).choices?.[0].message.content;
        resolve(response.statusCode === 200 && said === whole ? 'right' : `wrong: ${number} ${response.statusCode} ${body.slice(-300)}`);
      });
      response.on('error', () => resolve('error'));
    });
    request.on('error', (error) => resolve(`socket: ${error.message}`));
    request.end(JSON.stringify({ model: 'pair', stream: number % 3 === 0,
      messages: [{ role: 'user', content: `Question #${number}#` }] }));
  });
  const rss = () => Number(readFileSync(`/proc/${edge.process.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) / 1024;
  const outcomes = {};
  let next = 0;
  const before = (await call('usage').then((answer) => answer.json())).groups[0].requests;
  const worker = async (until) => {
    while (next < until) {
      next += 1;
      const outcome = await ask(next, next % 101 === 0 && next % 3 === 0);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
  };
  const warm = Math.floor(total / 4);
  await Promise.all(Array.from({ length: 32 }, () => worker(warm)));
  const settled = rss();
  await Promise.all(Array.from({ length: 32 }, () => worker(total)));
  agent.destroy();
  const strange = Object.keys(outcomes).filter((outcome) => !['right', 'abandoned', 'busy'].includes(outcome));
  assert.deepEqual(strange.slice(0, 5), [], JSON.stringify(outcomes).slice(0, 500));
  assert.ok(outcomes.right > total * 0.9, JSON.stringify(outcomes));

  // Every request has exactly one record, and nothing still runs. Abandoned ones end soon.
  let recorded = 0;
  for (let look = 0; look < 100 && recorded < next; look += 1) {
    recorded = (await call('usage').then((answer) => answer.json())).groups[0].requests - before;
  }
  assert.equal(recorded, next);
  const metrics = await edge.fetch('/metrics', { key: admin }).then((answer) => answer.text());
  assert.match(metrics, /tandem_usage_records_total\{result="duplicate"\} 0/);
  assert.match(metrics, /tandem_usage_records_total\{result="lost"\} 0/);
  // Memory comes back to where it was: three quarters of the requests leave less than 8 MiB.
  assert.ok(rss() - settled < 8, `${settled.toFixed(1)} MiB before, ${rss().toFixed(1)} MiB after`);
});
