#!/usr/bin/env node
// The migration case: an application that used a cloud model alone moves to the device, 5 % -> 50 % -> 100 %
// of its traffic, with the wire contract's configuration, replaced while requests run. Prints average,
// p50 and p99 of each step, as the client measured them.
//
// Usage: bench/migration/run.mjs [--seconds 10] [--clients 4] [--cloud-ms 420] [--json FILE]
//
// The cloud is simulated on loopback: it answers after --cloud-ms. The device is the demo model. The
// clients run in a closed loop with a pause of 50 ms between two requests, each as another user.
import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { cpus, loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const tandem = process.env.TANDEM_BINARY ?? join(root, 'build/release/tandem');
const { values } = parseArgs({ options: {
  seconds: { type: 'string', default: '10' }, clients: { type: 'string', default: '4' },
  'cloud-ms': { type: 'string', default: '420' }, json: { type: 'string' } } });
const seconds = Number(values.seconds);
const cloudMs = Number(values['cloud-ms']);
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const answer = JSON.stringify({ id: 'c', object: 'chat.completion', created: 0, model: 'deepseek-v3.2',
  choices: [{ index: 0, message: { role: 'assistant', content: 'Yes, we ship to Singapore.' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 12, completion_tokens: 7, total_tokens: 19 } });
const cloud = createServer((request, response) => {
  request.resume();
  setTimeout(() => { response.writeHead(200, { 'Content-Type': 'application/json' }); response.end(answer); }, cloudMs);
});
await new Promise((resolve) => { cloud.listen(0, '127.0.0.1', resolve); });

// What existing clients hold.
const configuration = (share) => JSON.stringify({
  primary: { base_url: 'local', model: 'mimo-7b-int4', traffic_percentage: share, timeout_ms: 5000 },
  fallback: { base_url: `http://127.0.0.1:${cloud.address().port}/v1`, model: 'deepseek-v3.2',
    traffic_percentage: 100 - share, timeout_ms: 8000 },
  circuit_breaker: { error_threshold: 0.05, recovery_timeout_seconds: 60 },
});
const directory = mkdtempSync(join(tmpdir(), 'tandem-migration-'));
const file = join(directory, 'deployment.json');
writeFileSync(file, configuration(0));
const key = (name, ...scope) => execFileSync(tandem, ['keys', 'create', name, ...scope, '--data-dir', directory],
  { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim().split('\n').at(-1);
const appKey = key('app');
const adminKey = key('ops', '--scope', 'admin');
const server = spawn(tandem, ['serve', '--listen', '127.0.0.1:0', '--config', file, '--alias', 'mimo-7b-int4=demo',
  '--data-dir', directory, '--log-level', 'warning'], { stdio: ['ignore', 'pipe', 'inherit'] });
const url = await new Promise((resolve, reject) => {
  createInterface({ input: server.stdout }).on('line', (line) => resolve(line.match(/http:\S+/)[0]));
  server.on('exit', () => reject(new Error('tandem serve ended')));
});
const headers = { Authorization: `Bearer ${appKey}`, 'Content-Type': 'application/json' };

const questions = ['Do you ship to Singapore?', 'How long does shipping take?', 'Can I return a jacket?', 'What does shipping cost?'];
let measured = [];
let running = true;
let n_users = 0;
async function client() {
  while (running) {
    const begin = performance.now();
    const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body: JSON.stringify({
      model: 'deployment', user: `user-${n_users++ % 400}`, max_tokens: 24, temperature: 0,
      messages: [{ role: 'user', content: questions[n_users % questions.length] }] }) });
    const body = await response.json();
    measured.push({ ms: performance.now() - begin, ok: response.status === 200 && body.choices[0].message.content.length > 0,
      tier: response.headers.get('x-tandem-tier') });
    await sleep(50);
  }
}
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)];

console.log(`${cpus().length} cores, load ${loadavg()[0].toFixed(1)}; cloud ${cloudMs} ms; ${values.clients} clients, ${seconds} s a step\n`);
console.log('device share  requests  on device  errors  average ms   p50 ms   p99 ms');
const rows = [];
const clients = Array.from({ length: Number(values.clients) }, client);
for (const share of [0, 5, 50, 100]) {
  // On live traffic: the clients never stop.
  const changed = await fetch(`${url}/v1/admin/config`, { method: 'PUT', headers: { ...headers, Authorization: `Bearer ${adminKey}` },
    body: configuration(share) });
  if (changed.status !== 200) throw new Error(await changed.text());
  await sleep(1500);  // what began before the change ends
  measured = [];
  await sleep(seconds * 1000);
  const step = measured;
  const times = step.map(({ ms }) => ms).sort((a, b) => a - b);
  const row = { share, requests: step.length, device: step.filter(({ tier }) => tier !== 'cloud').length / step.length,
    errors: step.filter(({ ok }) => !ok).length, average_ms: times.reduce((sum, ms) => sum + ms, 0) / times.length,
    p50_ms: quantile(times, 0.5), p99_ms: quantile(times, 0.99) };
  rows.push(row);
  console.log(`${String(share).padStart(11)} %${String(row.requests).padStart(10)}${(100 * row.device).toFixed(1).padStart(9)} %`
    + `${String(row.errors).padStart(8)}${row.average_ms.toFixed(1).padStart(12)}${row.p50_ms.toFixed(1).padStart(9)}${row.p99_ms.toFixed(1).padStart(9)}`);
}
running = false;
await Promise.all(clients);
const [first, last] = [rows[0], rows.at(-1)];
console.log(`\nbefore ${first.average_ms.toFixed(1)} ms average, ${first.p99_ms.toFixed(1)} ms p99; `
  + `after ${last.average_ms.toFixed(1)} ms average, ${last.p99_ms.toFixed(1)} ms p99 (${(first.average_ms / last.average_ms).toFixed(1)}x)`);
if (values.json) writeFileSync(values.json, `${JSON.stringify({ cloud_ms: cloudMs, load: loadavg(), rows }, null, 2)}\n`);
if (readFileSync(file, 'utf8') !== configuration(100)) throw new Error('the file is not the configuration in force');
server.kill('SIGTERM');
cloud.closeAllConnections();
cloud.close();
await new Promise((resolve) => { server.on('exit', resolve); });
rmSync(directory, { recursive: true, force: true });
