// The demo model's held-out exam, asked over HTTP: a real model, answered by the real server.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Server } from './server.mjs';

const exam = join(dirname(fileURLToPath(import.meta.url)), '../../models/demo/exam.py');
let server;
before(async () => { server = await Server.start(); });
after(async () => { await server?.stop(); });

test('the int4 demo model passes its exam', async () => {
  const child = spawn('python3', [exam, '--base-url', `${server.url}/v1`, '--key', server.key,
    '--min-overall', '0.95', '--min-skill', '0.85'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { out += data; });
  const code = await new Promise((resolve) => child.on('exit', resolve));
  console.log(out);
  assert.equal(code, 0, out);
});
