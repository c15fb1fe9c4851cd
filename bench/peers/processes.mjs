// The programs that bench/peers/run.mjs measures: kept, and asked line by line, or started anew each time.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';

export const say = (text) => process.stderr.write(`${text}\n`);

// A program that answers each line of JSON by one.
export class LineProcess {
  constructor(command, args) {
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.ended = new Promise((resolve) => { this.child.on('exit', resolve); });
    this.first = this.#next();
  }

  async #next() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`${this.child.spawnargs.join(' ')} ended`);
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  ask(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
    return this.#next();
  }

  async end() {
    this.child.stdin.end();
    await this.ended;
  }
}

// Takes a file's pages out of the page cache (GNU dd: posix_fadvise(POSIX_FADV_DONTNEED) on all of it).
export function dropFromCache(path) {
  spawnSync('sync');
  spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
}

// From the start of a process to its first token of an answer, with its peak memory while it generates
// a few more with a context of 1,024.
export const coldStart = {
  // From before exec to the end of the first answer, one token long. Milliseconds; memory by VmHWM, which
  // counts the pages of the mapped package that it touched.
  async tandem(binary, model, threads, prompt) {
    const args = (tokens) => ['run', model, '--prompt', prompt, '--max-tokens', tokens, '--verbose', '--context', '1024', '--threads', threads];
    const started = performance.now();
    const child = spawn(binary, args('1'), { stdio: ['ignore', 'ignore', 'pipe'] });
    let ms = 0;
    let text = '';
    for await (const chunk of child.stderr) {
      ms ||= performance.now() - started;
      text += chunk;
    }
    const tokens = Number(/(\d+) prompt tokens/.exec(text)?.[1]);
    if (!tokens) throw new Error(`tandem run: ${text}`);
    const longer = spawnSync(binary, args('16'), { encoding: 'utf8' });
    return { ms, tokens, peak_bytes: Number(/\((\d+) bytes\)/.exec(longer.stderr)[1]) };
  },
  // The library's loading, prompt and first logits; node's own start and that of the JavaScript around
  // the library are left out.
  async peer(script, model, threads, tokens) {
    const run = spawnSync(process.execPath, [script, model, '--threads', threads, '--first-token', String(tokens), '--context', '1024'], { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(`llama.mjs: ${run.stderr}`);
    return JSON.parse(run.stdout.trim().split('\n').at(-1));
  },
};
