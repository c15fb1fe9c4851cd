// The depot as others see it: the contract's download call, skopeo in both directions, pulls from
// another Tandem and from a static web server, damage and repair, and kill -9 at fifty moments.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync, openSync, writeSync, closeSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Server, run, tandem } from './server.mjs';

const exec = promisify(execFile);
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
let dir;
let server;
let admin;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tandem-depot-'));
  server = await Server.start();
  admin = run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', server.dataDir]).trim().split('\n').at(-1);
});
after(async () => {
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

// Runs tandem without blocking this process, which may be the server.
function call(args, data, env = {}) {
  return new Promise((resolve) => {
    execFile(tandem, [...args, '--data-dir', data], { env: { ...process.env, ...env } },
      (error, out, err) => resolve({ code: error ? error.code : 0, out, err }));
  });
}
const download = (body, options) => server.fetch('/v1/models/download', { body, ...options });
const wanted = { quantization: 'int4', target_platform: 'android_arm64' };

// ---- POST /v1/models/download ---------------------------------------------------------------------

test('download tells a device all that it needs, by either name of the model', async () => {
  for (const name of [{ model: 'demo' }, { model_id: 'demo' }]) {
    const reply = await download({ ...name, ...wanted, npu_acceleration: true, include_tokenizer: true });
    assert.equal(reply.status, 200, await reply.clone().text());
    const body = await reply.json();
    assert.equal(body.status, 'ready');
    assert.equal(body.model_name, 'demo');
    assert.equal(body.quantization, 'int4');
    assert.equal(body.target_platform, 'android_arm64');
    assert.match(body.manifest_digest, /^sha256:[0-9a-f]{64}$/);
    assert.match(body.signature, /^[0-9a-f]{128}$/);
    const sum = body.files.reduce((bytes, file) => bytes + file.size_bytes, 0);
    assert.ok(Math.abs(body.size_mb - sum / 2 ** 20) < 0.01);
    for (const file of body.files) {
      assert.ok(file.url.startsWith(`${server.url}/v2/demo/blobs/sha256:`), file.url);
      const headers = { Authorization: `Bearer ${server.key}` };
      const content = Buffer.from(await (await fetch(file.url, { headers })).arrayBuffer());
      assert.equal(content.length, file.size_bytes);
      assert.equal(sha256(content), file.sha256, file.name);
    }
    assert.ok(body.files[0].name.endsWith('.tandem'));
    const manifest = await fetch(body.manifest_url, { headers: { Authorization: `Bearer ${server.key}` } });
    assert.equal(`sha256:${sha256(Buffer.from(await manifest.arrayBuffer()))}`, body.manifest_digest);
  }
});

test('a file of a download can be gone on with by range, with the key only', async () => {
  const { files: [file] } = await (await download({ model: 'demo', ...wanted })).json();
  const headers = { Authorization: `Bearer ${server.key}` };
  const part = await fetch(file.url, { headers: { ...headers, Range: `bytes=1000-1999` } });
  assert.equal(part.status, 206);
  assert.equal(part.headers.get('content-range'), `bytes 1000-1999/${file.size_bytes}`);
  const whole = Buffer.from(await (await fetch(file.url, { headers })).arrayBuffer());
  assert.ok(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(1000, 2000)));
  const last = await fetch(file.url, { headers: { ...headers, Range: 'bytes=-5' } });
  assert.ok(Buffer.from(await last.arrayBuffer()).equals(whole.subarray(-5)));
  const beyond = await fetch(file.url, { headers: { ...headers, Range: `bytes=${file.size_bytes}-` } });
  assert.equal(beyond.status, 416);
  assert.equal(beyond.headers.get('content-range'), `bytes */${file.size_bytes}`);
  const head = await fetch(file.url, { method: 'HEAD', headers });
  assert.equal(Number(head.headers.get('content-length')), file.size_bytes);
  const unchanged = await fetch(file.url, { headers: { ...headers, 'If-None-Match': head.headers.get('etag') } });
  assert.equal(unchanged.status, 304);
  assert.equal((await fetch(file.url)).status, 401);
});

test('the tokenizer is left out where nobody wants it', async () => {
  const names = async (include) => {
    const body = await (await download({ model: 'demo', ...wanted, include_tokenizer: include })).json();
    return body.files.map((file) => file.name);
  };
  assert.ok((await names(true)).includes('tokenizer.tables'));
  assert.ok(!(await names(false)).includes('tokenizer.tables'));
});

test('what is wrong with a download is said with its status, code and param', async () => {
  const error = async (body, options) => {
    const reply = await download(body, options);
    return [reply.status, (await reply.json()).error];
  };
  const [status, unknown] = await error({ model: 'nope', ...wanted });
  assert.deepEqual([status, unknown.code, unknown.param], [404, 'model_not_found', 'model']);
  const [, missing] = await error({ model: 'demo', quantization: 'int4' });
  assert.equal(missing.param, 'target_platform');
  const [mistyped, wrong] = await error({ model: 7, ...wanted });
  assert.deepEqual([mistyped, wrong.param], [400, 'model']);
  const [other, form] = await error({ model: 'demo', quantization: 'int3', target_platform: 'android_arm64' });
  assert.deepEqual([other, form.param], [409, 'quantization']);
  assert.match(form.message, /int4/);
  const [absent, installed] = await error({ model: 'phi-4-mini', ...wanted });
  assert.deepEqual([absent, installed.code], [409, 'model_not_installed']);
  assert.match(installed.message, /tandem publish phi-4-mini/);
  assert.equal((await error({ model: 'demo', ...wanted }, { key: null }))[0], 401);
});

// ---- /v2 and skopeo -------------------------------------------------------------------------------

const registry = (path, { key = server.key, ...options } = {}) => fetch(server.url + path, {
  ...options,
  headers: { ...options.headers, ...(key && { Authorization: `Basic ${Buffer.from(`any:${key}`).toString('base64')}` }) },
});

test('a caller without a key is challenged, one with a key may read and not write', async () => {
  const refused = await registry('/v2/', { key: null });
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate'), /^Basic /);
  assert.equal((await refused.json()).errors[0].code, 'UNAUTHORIZED');
  assert.equal((await registry('/v2/')).status, 200);
  assert.equal((await registry('/v2/', { key: 'tdm_live_wrong' })).status, 401);
  const upload = await registry('/v2/demo/blobs/uploads/', { method: 'POST' });
  assert.equal(upload.status, 403);
  assert.equal((await registry('/v2/demo/blobs/uploads/', { method: 'POST', key: admin })).status, 202);
});

test('a key for some models sees no others', async () => {
  const key = run(['keys', 'create', 'narrow', '--models', 'phi-4-mini', '--data-dir', server.dataDir]).trim().split('\n').at(-1);
  assert.equal((await registry('/v2/demo/manifests/int4', { key })).status, 404);
  assert.equal((await registry('/v2/demo/manifests/int4')).status, 200);
  const { files: [file] } = await (await download({ model: 'demo', ...wanted })).json();
  assert.equal((await registry(`/v2/demo/blobs/sha256:${file.sha256}`, { key })).status, 404);
  assert.equal((await download({ model: 'demo', ...wanted }, { key })).status, 404);
});

test('skopeo inspects and copies a package out of the depot and back under another tag', async () => {
  const host = server.url.slice('http://'.length);
  const skopeo = (...args) => exec('skopeo', ['--insecure-policy', ...args], { maxBuffer: 1 << 24 });
  const source = `docker://${host}/demo:int4`;
  const raw = (await skopeo('inspect', '--raw', '--tls-verify=false', '--creds', `e2e:${server.key}`, source)).stdout;
  const manifest = JSON.parse(raw);
  assert.equal(manifest.artifactType, 'application/vnd.tandem.model.v1');
  const inspected = JSON.parse((await skopeo('inspect', '--tls-verify=false', '--creds', `e2e:${server.key}`, source)).stdout);
  assert.equal(inspected.Digest, `sha256:${sha256(raw)}`);
  assert.ok(inspected.RepoTags.includes('int4'));

  const layout = join(dir, 'layout');
  await skopeo('copy', '--preserve-digests', '--src-tls-verify=false', '--src-creds', `e2e:${server.key}`, source, `oci:${layout}:demo:int4`);
  for (const layer of manifest.layers) {
    const blob = readFileSync(join(layout, 'blobs/sha256', layer.digest.slice('sha256:'.length)));
    assert.equal(`sha256:${sha256(blob)}`, layer.digest);
  }
  await skopeo('copy', '--preserve-digests', '--dest-tls-verify=false', '--dest-creds', `ops:${admin}`,
    `oci:${layout}:demo:int4`, `docker://${host}/copies/demo:again`);
  const again = await registry('/v2/copies/demo/manifests/again');
  assert.equal(again.status, 200);
  assert.equal(sha256(await again.text()), sha256(raw));
  // And out of another depot altogether: nothing was there before.
  const empty = await Server.start();
  try {
    const key = run(['keys', 'create', 'ops', '--scope', 'admin', '--data-dir', empty.dataDir]).trim().split('\n').at(-1);
    await skopeo('copy', '--preserve-digests', '--dest-tls-verify=false', '--dest-creds', `ops:${key}`,
      `oci:${layout}:demo:int4`, `docker://127.0.0.1:${empty.port}/shop/assistant:v1`);
    const listed = JSON.parse(run(['list', '--json', '--data-dir', empty.dataDir])).map((model) => model.name);
    assert.ok(listed.includes('shop/assistant:v1'), `${listed}`);
    const blobs = readdirSync(join(empty.dataDir, 'models/blobs/sha256'));
    assert.equal(blobs.length, manifest.layers.length + 2);
  } finally {
    await empty.stop();
  }
});

test('an upload is gone on with, and bytes that are not what was said are refused', async () => {
  const begin = async () => (await registry('/v2/demo/blobs/uploads/', { method: 'POST', key: admin })).headers.get('location');
  const bytes = Buffer.alloc(3 << 20, 'x');
  const digest = `sha256:${sha256(bytes)}`;
  const location = await begin();
  const first = await registry(location, { method: 'PATCH', key: admin, body: bytes.subarray(0, 1 << 20) });
  assert.equal(first.status, 202);
  assert.equal(first.headers.get('range'), `0-${(1 << 20) - 1}`);
  const status = await registry(location, { key: admin });
  assert.equal(status.headers.get('range'), `0-${(1 << 20) - 1}`);
  const misplaced = await registry(location, { method: 'PATCH', key: admin, body: bytes.subarray(0, 10), headers: { 'Content-Range': '5-14' } });
  assert.equal(misplaced.status, 416);
  const done = await registry(`${location}?digest=${digest}`, { method: 'PUT', key: admin, body: bytes.subarray(1 << 20) });
  assert.equal(done.status, 201, await done.text());
  assert.equal((await registry(`/v2/demo/blobs/${digest}`, { method: 'HEAD', key: admin })).status, 200);
  const wrong = await registry(`${await begin()}?digest=${digest}`, { method: 'PUT', key: admin, body: 'other bytes' });
  assert.equal(wrong.status, 400);
  assert.equal((await wrong.json()).errors[0].code, 'DIGEST_INVALID');
  const unknown = await registry('/v2/demo/blobs/uploads/0123', { method: 'PATCH', key: admin, body: 'x' });
  assert.equal((await unknown.json()).errors[0].code, 'BLOB_UPLOAD_UNKNOWN');
});

test('manifests that name what is not there, and names that are none, are refused', async () => {
  const put = (path, body) => registry(path, { method: 'PUT', key: admin, body: typeof body === 'string' ? body : JSON.stringify(body) });
  const blob = { mediaType: 'x', digest: `sha256:${'a'.repeat(64)}`, size: 2 };
  const codes = [
    ['/v2/new/manifests/v1', { schemaVersion: 2, config: blob, layers: [] }, 400, 'MANIFEST_BLOB_UNKNOWN'],
    ['/v2/new/manifests/v1', '{', 400, 'MANIFEST_INVALID'],
    ['/v2/new/manifests/v1', { schemaVersion: 1 }, 400, 'MANIFEST_INVALID'],
    ['/v2/New/manifests/v1', {}, 400, 'NAME_INVALID'],
  ];
  for (const [path, body, status, code] of codes) {
    const reply = await put(path, body);
    const text = await reply.text();
    assert.equal(reply.status, status, `${path}: ${text}`);
    assert.equal(JSON.parse(text).errors[0].code, code, path);
  }
  assert.equal((await registry('/v2/new/tags/list', { key: admin })).status, 404);
  const tags = await (await registry('/v2/demo/tags/list')).json();
  assert.deepEqual(tags, { name: 'demo', tags: ['int4'] });
});

// ---- pull, verify, repair -------------------------------------------------------------------------

test('a package is pulled from another Tandem, runs, rots and is repaired', async () => {
  const data = join(dir, 'puller');
  const url = `${server.url}/demo:int4`;
  const refused = await call(['pull', url], data);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /TANDEM_DEPOT_KEY/);
  const env = { TANDEM_DEPOT_KEY: server.key };
  const pulled = await call(['pull', url, '--json'], data, env);
  assert.equal(pulled.code, 0, pulled.err);
  assert.equal(JSON.parse(pulled.out).name, 'demo:int4');
  const again = await call(['pull', url, '--json'], data, env);
  assert.equal(JSON.parse(again.out).already_installed, true);
  const prompt = ['--prompt', 'Do you ship to Singapore?'];
  const answer = await call(['run', 'demo:int4', ...prompt], data);
  assert.equal(answer.code, 0, answer.err);
  assert.equal(answer.out, (await call(['run', 'demo', ...prompt], data)).out);

  assert.equal((await call(['verify', 'demo:int4'], data)).code, 0);
  const [file] = JSON.parse((await call(['show', 'demo:int4', '--json'], data)).out).files;
  const blob = join(data, 'models/blobs/sha256', file.sha256);
  const fd = openSync(blob, 'r+');
  writeSync(fd, Buffer.alloc(4096), 0, 4096, 100_000); // what a sleeping laptop leaves
  closeSync(fd);
  const rotten = await call(['verify', 'demo:int4'], data);
  assert.equal(rotten.code, 1);
  assert.match(rotten.err, /tandem repair demo:int4/);
  const repaired = await call(['repair', 'demo:int4', '--json'], data, { TANDEM_DEPOT_KEY: `${server.url}=${server.key}` });
  assert.equal(repaired.code, 0, repaired.err);
  assert.deepEqual(JSON.parse(repaired.out).repaired, [file.name]);
  assert.equal(sha256(readFileSync(blob)), file.sha256);
  assert.equal((await call(['repair', 'demo:int4'], data)).code, 0);
  assert.equal((await call(['verify', 'demo:int4'], data)).code, 0);
  assert.equal((await call(['rm', 'demo:int4'], data)).code, 0);
  assert.deepEqual(readdirSync(join(data, 'models/blobs/sha256')), []);
});

// An image layout with one model of `size` bytes, as files.
function makeLayout(folder, name, size, chunkBytes) {
  let state = 1;
  const weights = Buffer.alloc(size);
  for (let i = 0; i < size; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    weights.writeUInt32LE(state, Math.min(i, size - 4));
  }
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  const put = (bytes, mediaType, title) => {
    writeFileSync(join(folder, 'blobs/sha256', sha256(bytes)), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length,
      ...(title && { annotations: { 'org.opencontainers.image.title': title } }) };
  };
  const chunks = [];
  for (let at = 0; at < size; at += chunkBytes) chunks.push(sha256(weights.subarray(at, at + chunkBytes)));
  const list = Buffer.from(JSON.stringify({ chunk_bytes: chunkBytes, files: { [sha256(weights)]: chunks } }));
  const manifest = Buffer.from(JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    artifactType: 'application/vnd.tandem.model.v1',
    config: put(Buffer.from('{}'), 'application/vnd.oci.image.config.v1+json'),
    layers: [
      put(weights, 'application/vnd.tandem.model.gguf.v1', 'weights.gguf'),
      put(list, 'application/vnd.tandem.model.chunks.v1+json', 'chunks.json'),
    ],
  }));
  const entry = put(manifest, 'application/vnd.oci.image.manifest.v1+json');
  entry.annotations = { 'org.opencontainers.image.ref.name': name };
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  return { digest: sha256(weights), blob: join(folder, 'blobs/sha256', sha256(weights)) };
}

// Files below a folder, with Range; `pace(bytes sent)` is waited for between pieces.
async function staticServer(folder, { pace, onRequest } = {}) {
  const requests = [];
  const web = http.createServer(async (request, response) => {
    requests.push({ url: request.url, headers: request.headers });
    if (onRequest && onRequest(request, response)) return;
    const path = join(folder, request.url);
    if (!existsSync(path) || !statSync(path).isFile()) {
      response.writeHead(404).end('no such file');
      return;
    }
    const { size } = statSync(path);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    const end = range && range[2] ? Number(range[2]) : size - 1;
    response.writeHead(range ? 206 : 200, {
      'Content-Length': end - start + 1,
      ...(range && { 'Content-Range': `bytes ${start}-${end}/${size}` }),
    });
    let sent = 0;
    for await (const piece of createReadStream(path, { start, end, highWaterMark: 32 << 10 })) {
      if (response.destroyed) return;
      response.write(piece);
      sent += piece.length;
      if (pace) await pace(sent, request);
    }
    response.end();
  });
  await new Promise((resolve) => { web.listen(0, '127.0.0.1', resolve); });
  return { requests, url: `http://127.0.0.1:${web.address().port}`, close: () => { web.closeAllConnections(); web.close(); } };
}

test('a static web server is a depot, and one source stands in for another', async () => {
  const folder = join(dir, 'static');
  const made = makeLayout(join(folder, 'models'), 'tiny:v1', 1 << 20, 64 << 10);
  const good = await staticServer(folder);
  const broken = await staticServer(folder, {
    onRequest: (request, response) => {
      if (!request.url.endsWith(made.digest)) return false;
      response.writeHead(503).end();
      return true;
    },
  });
  try {
    const data = join(dir, 'of-static');
    const pulled = await call(['pull', `${broken.url}/models/tiny:v1`, '--from', good.url], data);
    assert.equal(pulled.code, 0, pulled.err);
    assert.equal(sha256(readFileSync(join(data, 'models/blobs/sha256', made.digest))), made.digest);
    assert.ok(broken.requests.some(({ url }) => url.endsWith(made.digest)));
    // One chunk rots: one chunk is fetched.
    const blob = join(data, 'models/blobs/sha256', made.digest);
    const fd = openSync(blob, 'r+');
    writeSync(fd, Buffer.alloc(10), 0, 10, 5 * (64 << 10) + 3);
    closeSync(fd);
    const before = good.requests.length;
    const repaired = await call(['repair', 'tiny:v1', '--from', `${good.url}/models`, '--json'], data);
    assert.equal(repaired.code, 0, repaired.err);
    assert.equal(JSON.parse(repaired.out).received_bytes, 64 << 10);
    const ranges = good.requests.slice(before).map(({ headers }) => headers.range).filter(Boolean);
    assert.deepEqual(ranges, [`bytes=${5 * (64 << 10)}-${6 * (64 << 10) - 1}`]);
    assert.equal(sha256(readFileSync(blob)), made.digest);
  } finally {
    good.close();
    broken.close();
  }
});

test('a key goes to its depot only, whatever that redirects to', async () => {
  const folder = join(dir, 'redirect');
  const made = makeLayout(folder, 'tiny:v1', 100_000, 64 << 10);
  const elsewhere = await staticServer(folder);
  const front = await staticServer(folder, {
    onRequest: (request, response) => {
      if (!request.url.endsWith(made.digest)) return false;
      response.writeHead(307, { Location: elsewhere.url + request.url }).end();
      return true;
    },
  });
  try {
    const data = join(dir, 'redirected');
    const pulled = await call(['pull', `${front.url}/tiny:v1`], data, { TANDEM_DEPOT_KEY: 'the-key' });
    assert.equal(pulled.code, 0, pulled.err);
    assert.ok(front.requests.every(({ headers }) => headers.authorization === 'Bearer the-key'));
    assert.equal(elsewhere.requests.length, 1);
    assert.equal(elsewhere.requests[0].headers.authorization, undefined);
  } finally {
    front.close();
    elsewhere.close();
  }
});

test('killed at fifty moments, a pull ends with the right bytes each time', async () => {
  const folder = join(dir, 'killed');
  const size = 4 << 20;
  const made = makeLayout(folder, 'tiny:v1', size, 256 << 10);
  // The server says when so many bytes went out; it is slow enough for that to be in the middle.
  let killAt = Infinity;
  let victim = null;
  const web = await staticServer(folder, {
    pace: async (sent, request) => {
      if (!request.url.endsWith(made.digest)) return;
      if (victim && sent >= killAt) victim.kill('SIGKILL');
      await new Promise((resolve) => { setTimeout(resolve, 1); });
    },
  });
  let state = 20_261_123;
  const random = (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const data = join(dir, 'killed-data');
  const pull = () => new Promise((resolve) => {
    const child = spawn(tandem, ['pull', `${web.url}/tiny:v1`, '--data-dir', data], { stdio: 'ignore' });
    victim = child;
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
  let kills = 0;
  let finished = 0;
  try {
    while (kills < 50) {
      killAt = random(size / 3);
      const { code, signal } = await pull();
      if (signal === 'SIGKILL') {
        kills += 1;
        // A half file is never visible.
        const blob = join(data, 'models/blobs/sha256', made.digest);
        if (existsSync(blob)) assert.equal(sha256(readFileSync(blob)), made.digest);
        continue;
      }
      assert.equal(code, 0);
      finished += 1;
      assert.equal(sha256(readFileSync(join(data, 'models/blobs/sha256', made.digest))), made.digest);
      assert.equal((await call(['rm', 'tiny:v1'], data)).code, 0);
    }
    killAt = Infinity;
    assert.equal((await pull()).code, 0);
    assert.equal(sha256(readFileSync(join(data, 'models/blobs/sha256', made.digest))), made.digest);
    assert.equal((await call(['verify', 'tiny:v1'], data)).code, 0);
    // Without resuming, every kill would have cost its bytes again.
    assert.ok(finished >= 3, `${finished} pulls ended between the kills`);
  } finally {
    web.close();
  }
});
