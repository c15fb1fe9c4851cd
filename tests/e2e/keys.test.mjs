// Keys with policies, their rotation, the audit log and usage, as an operator uses them.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, tandem } from './server.mjs';

let dir;
before(() => { dir = mkdtempSync(join(tmpdir(), 'tandem-keys-')); });
after(() => { rmSync(dir, { recursive: true, force: true }); });

function call(args, dataDir = dir) {
  const result = spawnSync(tandem, [...args, '--data-dir', dataDir], { encoding: 'utf8' });
  return { code: result.status, out: result.stdout, err: result.stderr };
}
function json(args, dataDir = dir) {
  const { code, out, err } = call([...args, '--json'], dataDir);
  assert.equal(code, 0, err);
  return JSON.parse(out);
}
// Somebody with write access to the database.
function sql(statement, dataDir = dir) {
  execFileSync('python3', ['-c',
    'import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(sys.argv[2])\nc.commit()',
    join(dataDir, 'tandem.db'), statement]);
}

test('a key carries its policy, and a plain one may chat everywhere', () => {
  const limited = json(['keys', 'create', 'limited', '--models', 'phi-4-mini,deepseek-v3.2', '--tiers', 'device',
    '--privacy', 'on_device', '--budget-usd', '10.5', '--per', 'total', '--scope', 'chat,admin', '--expires', '90d']);
  assert.match(limited.key, /^tdm_live_/);
  assert.deepEqual(limited.models, ['phi-4-mini', 'deepseek-v3.2']);
  assert.deepEqual(limited.tiers, ['device']);
  assert.equal(limited.privacy, 'on_device');
  assert.deepEqual(limited.budget, { usd: 10.5, per: 'total' });
  assert.deepEqual(limited.scopes, ['chat', 'admin']);
  assert.equal(limited.expires_at - limited.created_at, 90 * 86400);
  const plain = json(['keys', 'create', 'plain']);
  assert.deepEqual([plain.models, plain.tiers, plain.privacy, plain.scopes, plain.budget, plain.expires_at],
    [[], ['device', 'cloud'], 'any', ['chat'], null, null]);
  const { key, ...listed } = limited;
  assert.deepEqual(json(['keys', 'list']).find((entry) => entry.name === 'limited'), listed);
});

test('wrong policies are refused with what to write', () => {
  for (const [args, message] of [
    [['--tiers', 'moon'], /device, cloud/],
    [['--scope', 'root'], /chat, admin/],
    [['--privacy', 'secret'], /any, redacted, on_device/],
    [['--budget-usd', '-1'], /dollars above 0/],
    [['--budget-usd', '1', '--per', 'week'], /month or total/],
    [['--expires', 'soon'], /90d/],
    [['--models', 'a b'], /model's name/],
  ]) {
    const { code, err } = call(['keys', 'create', 'wrong', ...args]);
    assert.equal(code, 1, args.join(' '));
    assert.match(err, message);
  }
  assert.equal(call(['keys', 'create', 'wrong', '--per', 'month']).code, 2);
  assert.ok(!json(['keys', 'list']).some((entry) => entry.name === 'wrong'));
});

test('rotation: both keys during the overlap, then only the new one, and the audit log says so', async () => {
  const server = await Server.start();
  try {
    const status = async (key) => (await server.fetch('/v1/models', { key })).status;
    assert.equal(await status(server.key), 200);
    const rotated = json(['keys', 'rotate', 'e2e', '--overlap', '1h'], server.dataDir);
    assert.equal(await status(rotated.key), 200);
    assert.equal(await status(server.key), 200, 'the old one overlaps');

    const last = json(['keys', 'rotate', 'e2e', '--overlap', '0'], server.dataDir);
    assert.equal(await status(last.key), 200, 'a new key is known at once');
    // What another process changed counts after half a second at most.
    const deadline = Date.now() + 10_000;
    while (await status(rotated.key) !== 401) assert.ok(Date.now() < deadline, 'still accepted');
    assert.equal(await status(server.key), 200, 'its own overlap goes on');

    const records = json(['audit', 'list'], server.dataDir);
    assert.deepEqual(records.map((record) => record.action), ['KEY_ROTATION', 'KEY_ROTATION', 'KEY_CREATE']);
    const [, first] = records;
    assert.equal(first.detail.old_prefix, server.key.slice(0, 17));
    assert.equal(first.detail.new_prefix, rotated.key.slice(0, 17));
    assert.match(first.who, /^local:/);
    assert.ok(Math.abs(first.at_ms - Date.now()) < 60_000);
    for (const key of [server.key, rotated.key, last.key]) {
      assert.ok(!JSON.stringify(records).includes(key.slice(18)), 'never a key');
    }
    // By name: every key that bears it.
    assert.equal(json(['keys', 'revoke', 'e2e'], server.dataDir).length, 3);
    while (await status(last.key) !== 401) assert.ok(Date.now() < deadline, 'still accepted');
    assert.equal(await status(server.key), 401);
  } finally {
    await server.stop();
  }
});

test('audit verify finds what was changed or removed, and an end that was seen earlier', () => {
  const other = mkdtempSync(join(tmpdir(), 'tandem-audit-'));
  try {
    for (const name of ['a', 'b', 'c']) call(['keys', 'create', name], other);
    const good = json(['audit', 'verify'], other);
    assert.equal(good.records, 3);
    call(['keys', 'create', 'd'], other);
    assert.equal(call(['audit', 'verify', '--head', good.head], other).code, 0);
    const forged = `3:${'0'.repeat(64)}`;
    assert.match(call(['audit', 'verify', '--head', forged], other).err, /written anew/);

    sql("UPDATE audit_log SET who = 'local:nobody' WHERE number = 2", other);
    const changed = call(['audit', 'verify'], other);
    assert.equal(changed.code, 1);
    assert.match(changed.err, /record 2/);
    sql('DELETE FROM audit_log WHERE number = 2', other);
    assert.match(call(['audit', 'verify'], other).err, /no record 2/);
  } finally {
    rmSync(other, { recursive: true, force: true });
  }
});

test('usage of a directory without requests is empty, not an error', () => {
  for (const by of ['model', 'tier', 'key', 'day', 'all']) {
    const { groups, total } = json(['usage', '--by', by, '--since', 'all']);
    assert.deepEqual(groups, []);
    assert.equal(total.requests, 0);
  }
  assert.deepEqual(json(['usage', 'list']), { records: [], next: '' });
  assert.deepEqual(json(['usage', 'prune', '--older-than', '1d']), { deleted: 0 });
});

test('a request is in the books: one record with its decision, calls and cost', async () => {
  const server = await Server.start();
  try {
    const body = { model: 'demo', messages: [{ role: 'user', content: 'Do you ship to Singapore?' }] };
    // The same id twice: both must be there.
    for (let i = 0; i < 2; ++i) {
      const answer = await server.fetch('/v1/chat/completions', { body, headers: { 'x-request-id': 'mine' } });
      assert.equal(answer.status, 200);
    }
    const refused = await server.fetch('/v1/chat/completions', { body: { ...body, model: 'no-such-model' } });
    assert.equal(refused.status, 404);
    // Written within a tenth of a second or so.
    const deadline = Date.now() + 10_000;
    let usage;
    do usage = json(['usage', '--by', 'key'], server.dataDir);
    while (usage.total.calls < 2 && Date.now() < deadline);
    const [group] = usage.groups;
    assert.equal(group.key_name, 'e2e');
    assert.equal(group.calls, 2);
    assert.ok(group.completion_tokens > 0);
    assert.equal(group.cost_usd, '0.00', 'the device costs nothing');
    assert.notEqual(group.saved_usd, '0.00');
    assert.ok(group.ttft_ms.p50 > 0);

    const record = json(['usage', 'show', 'mine'], server.dataDir);
    assert.equal(record.client_request_id, 'mine');
    assert.equal(record.model, 'demo');
    assert.equal(record.outcome, 'stop');
    assert.equal(record.attempts.length, 1);
    assert.equal(record.attempts[0].outcome, 'answered');
    assert.equal(record.attempts[0].egress, null);
    assert.equal(typeof record.decision, 'object');
    assert.ok(!JSON.stringify(record).includes('Singapore'), 'not a word of the conversation');
    const { records } = json(['usage', 'list', '--key', 'e2e'], server.dataDir);
    assert.equal(records.filter((each) => each.client_request_id === 'mine').length, 2);
    assert.deepEqual(json(['usage', 'show', records[0].request_id], server.dataDir).request_id, records[0].request_id);

    // Prometheus says the same.
    const admin = json(['keys', 'create', 'operator', '--scope', 'admin'], server.dataDir).key;
    const metrics = await (await server.fetch('/metrics', { key: admin })).text();
    const tokens = metrics.match(/^tandem_generation_tokens_total\{[^}]*model="demo"\} (\d+)$/m);
    assert.equal(Number(tokens?.[1]), usage.total.completion_tokens, metrics);
  } finally {
    await server.stop();
  }
});

test('a key does what its policy says and no more', async () => {
  const server = await Server.start();
  try {
    const key = (...args) => json(['keys', 'create', ...args], server.dataDir).key;
    const body = { model: 'demo', messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 };
    const chat = async (as) => (await server.fetch('/v1/chat/completions', { body, key: as })).status;
    const admin = async (as) => (await server.fetch('/v1/admin/targets', { key: as })).status;
    assert.equal(await chat(server.key), 200);
    assert.equal(await admin(server.key), 403, 'a plain key is no admin');
    const operator = key('operator', '--scope', 'admin');
    assert.equal(await admin(operator), 200);
    assert.equal(await chat(operator), 403, 'and an admin key does not chat');
    assert.equal(await chat(key('other-models', '--models', 'phi-4-mini')), 403);
    assert.equal(await chat(key('this-model', '--models', 'demo', '--budget-usd', '0.000001')), 200,
      'the device costs nothing');
  } finally {
    await server.stop();
  }
});

test('usage refuses what it does not know', () => {
  for (const [args, message] of [
    [['usage', '--by', 'moon'], /model, tier, key, day/],
    [['usage', '--since', 'yesterday'], /24h/],
    [['usage', '--key', 'nobody'], /keys list/],
    [['usage', 'show', 'req-0'], /usage list/],
    [['usage', 'list', '--cursor', 'x'], /cursor/],
  ]) {
    const { code, err } = call(args);
    assert.equal(code, 1, args.join(' '));
    assert.match(err, message);
  }
});

test('prices: the built-in ones, and a file that is checked line by line', () => {
  const prices = JSON.parse(execFileSync(tandem, ['usage', 'prices', '--json'], { encoding: 'utf8' }));
  const deepseek = prices.find((price) => price.model === 'deepseek-v3.2');
  assert.deepEqual([deepseek.input, deepseek.output, deepseek.blended], ['0.28', '0.56', '0.42']);
  const file = join(dir, 'prices.toml');
  writeFileSync(file, '[[price]]\nmodel = "m"\nfrom = 2026-01-01\ninput = 1\noutput = "2"\n');
  const wrong = spawnSync(tandem, ['usage', 'prices', '--file', file], { encoding: 'utf8' });
  assert.equal(wrong.status, 1);
  assert.match(wrong.stderr, /prices\.toml:5:10: price\[0\]\.output/);
});
