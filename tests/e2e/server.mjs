// Starts the release binary on a free port with a data directory of its own, and stops it again.
import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const tandem = process.env.TANDEM_BINARY ?? join(root, 'build/release/tandem');

// Runs a command to its end; throws with its stderr when it fails.
export function run(args, options = {}) {
  return execFileSync(tandem, args, { encoding: 'utf8', ...options });
}

let keys = 0;  // names of keys are taken once in a data directory

export class Server {
  // `args` follow `tandem serve`, `env` is added to the environment. Resolves when the server prints
  // the address it listens on. A `dataDir` that is given stays when the server stops; with a `key`
  // none is made.
  static async start(args = [], env = {}, { dataDir, key } = {}) {
    const server = new Server();
    server.keepsData = dataDir !== undefined;
    server.dataDir = dataDir ?? mkdtempSync(join(tmpdir(), 'tandem-e2e-'));
    server.key = key ?? run(['keys', 'create', dataDir ? `e2e-${++keys}` : 'e2e', '--data-dir', server.dataDir]).trim().split('\n').at(-1);
    server.process = spawn(
      tandem,
      ['serve', '--listen', '127.0.0.1:0', '--data-dir', server.dataDir, ...args],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } },
    );
    server.exited = new Promise((resolve) => {
      server.process.on('exit', (code, signal) => resolve({ code, signal }));
    });
    server.log = '';
    server.process.stderr.on('data', (data) => { server.log += data; });
    const lines = createInterface({ input: server.process.stdout });
    const listening = (async () => {
      for await (const line of lines) {
        const match = line.match(/http:\/\/127\.0\.0\.1:(\d+)/);
        if (match) return Number(match[1]);
      }
      throw new Error(`tandem serve ended before it listened:\n${server.log}`);
    })();
    server.port = await listening;
    server.url = `http://127.0.0.1:${server.port}`;
    return server;
  }

  async stop() {
    this.process.kill('SIGTERM');
    const result = await this.exited;
    if (!this.keepsData) rmSync(this.dataDir, { recursive: true, force: true });
    return result;
  }

  async kill() {
    this.process.kill('SIGKILL');
    return this.exited;
  }

  fetch(path, { body, key = this.key, ...options } = {}) {
    const headers = { 'Content-Type': 'application/json', ...options.headers };
    if (key) headers.Authorization = `Bearer ${key}`;
    return fetch(this.url + path, {
      method: body === undefined ? 'GET' : 'POST',
      ...options,
      headers,
      body: body === undefined || typeof body === 'string' || body instanceof Uint8Array
        ? body : JSON.stringify(body),
    });
  }
}
