// The configuration as an operator meets it: check, show, and serve with a file.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server, tandem } from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
let dir;
before(() => { dir = mkdtempSync(join(tmpdir(), 'tandem-config-')); });
after(() => { rmSync(dir, { recursive: true, force: true }); });

function file(name, text) {
  writeFileSync(join(dir, name), text);
  return name;
}
function config(args, env = {}) {
  const { DEEPSEEK_API_KEY: _, ...rest } = process.env;
  const result = spawnSync(tandem, ['config', ...args], { encoding: 'utf8', cwd: dir, env: { ...rest, ...env } });
  return { code: result.status, out: result.stdout, err: result.stderr };
}

test('check says all that is wrong, a line each, and fails', () => {
  const name = file('wrong.toml', '[server]\nlissten = "a"\nio_threads = 0\n');
  assert.deepEqual(config(['check', name]), {
    code: 1,
    out: '',
    err: 'wrong.toml:2:1: server: unknown key \'lissten\'; did you mean \'listen\'?\n' +
      'wrong.toml:3:14: server.io_threads: must be a whole number from 1 to 64, not 0\n' +
      'tandem: wrong.toml cannot be used\n',
  });
  const json = file('wrong.json', '{"primary": {"model": "demo",\n  "traffic_percentage": 90}}');
  const { code, err } = config(['check', json]);
  assert.equal(code, 1);
  assert.match(err, /^wrong\.json:2:25: primary\.traffic_percentage: must be 100 /);
});

test('check of what is shipped is content, and says what is missing for the cloud', () => {
  for (const name of ['three-tier.toml', 'migration.json']) {
    const path = join(root, 'config', name);
    const { code, out } = config(['check', path]);
    assert.equal(code, 0, out);
    assert.match(out, /upstream deepseek-v3\.2: not enabled: set DEEPSEEK_API_KEY or /);
  }
});

test('show prints what can be read back, as TOML and as JSON', () => {
  const toml = config(['show']).out;
  const again = file('shown.toml', toml);
  assert.equal(config(['show', again]).out, toml);
  const json = config(['show', '--json']).out;
  assert.equal(JSON.parse(json).strategy[0].name, 'three-tier');
  assert.equal(config(['show', file('shown.json', json)]).out, toml);
});

test('show --origin names the line, and where a key is but never the key', () => {
  const name = file('own.toml', '[server]\nio_threads = 2\n\n[[upstream]]\nmodel = "big"\n' +
    'base_url = "https://big.example/v1"\napi_key_env = "BIG_KEY"\n');
  const { out } = config(['show', name, '--origin'], { BIG_KEY: 'sk-topsecret' });
  assert.match(out, /^io_threads = 2 {2}# own\.toml:2$/m);
  assert.match(out, /^listen = "127\.0\.0\.1:7070" {2}# default$/m);
  assert.match(out, /^\[\[upstream\]\] {2}# key set from BIG_KEY$/m);
  assert.match(out, /^name = "three-tier" {2}# shipped three-tier\.toml:\d+$/m);
  assert.ok(!out.includes('topsecret'));
  const values = JSON.parse(config(['show', name, '--origin', '--json'], { BIG_KEY: 'sk-topsecret' }).out);
  assert.deepEqual(values['server.io_threads'], { value: 2, origin: 'own.toml:2' });
  assert.deepEqual(values['upstream[0].api_key'], { value: null, origin: 'key set from BIG_KEY' });
});

test('a server takes the file, and flags win over it', async () => {
  const path = join(dir, file('serve.toml', '[server]\nlisten = "192.0.2.1:1"\ncors_allow_origin = "https://a.example"\n\n' +
    '[[alias]]\nname = "shop"\nmodel = "demo"\n'));
  const server = await Server.start(['--config', path]);
  try {
    const response = await server.fetch('/v1/chat/completions', {
      headers: { Origin: 'https://a.example' },
      body: { model: 'shop', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 },
    });
    assert.equal(response.status, 200, await response.text());
    assert.equal(response.headers.get('access-control-allow-origin'), 'https://a.example');
  } finally {
    await server.stop();
  }
});

test('a server with a wrong file does not start, and says why', () => {
  const path = join(dir, file('bad.toml', '[server]\nio_threads = "two"\n'));
  const result = spawnSync(tandem, ['serve', '--config', path, '--data-dir', dir], { encoding: 'utf8' });
  assert.equal(result.status, 1);
  assert.ok(result.stderr.includes('bad.toml:2:14: server.io_threads: must be a whole number'), result.stderr);
});

test('the documentation names every field', () => {
  const text = readFileSync(join(root, 'docs/configuration.md'), 'utf8');
  const named = new Set();
  const collect = (value) => {
    for (const [key, inner] of Object.entries(value)) {
      named.add(key);
      for (const table of Array.isArray(inner) ? inner : [inner]) {
        if (table && typeof table === 'object') collect(table);
      }
    }
  };
  collect(JSON.parse(config(['show', join(root, 'fuzz/corpus/config/everything.toml'), '--json']).out));
  for (const name of named) assert.ok(new RegExp(`\\b${name}\\b`).test(text), name);
});
