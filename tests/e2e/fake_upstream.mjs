// An OpenAI-like upstream whose behaviour a test chooses for each call; it records what it was sent.
import { createServer } from 'node:http';

const chunk = (model, delta, finish = null, usage) => `data: ${JSON.stringify({
  id: 'chatcmpl-fake', object: 'chat.completion.chunk', created: 1700000000, model,
  choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], ...(usage ? { usage } : {}),
})}\n\n`;

export class FakeUpstream {
  // `behave(call)` answers each request; see the methods of Call below.
  static async start(behave) {
    const upstream = new FakeUpstream();
    upstream.calls = [];
    upstream.behave = behave;
    upstream.server = createServer((request, response) => {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        const raw = Buffer.concat(parts);
        const call = new Call(request, response, raw);
        upstream.calls.push(call);
        upstream.behave(call);
      });
    });
    await new Promise((resolve) => { upstream.server.listen(0, '127.0.0.1', resolve); });
    upstream.url = `http://127.0.0.1:${upstream.server.address().port}/v1`;
    return upstream;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => { this.server.close(resolve); });
  }
}

class Call {
  constructor(request, response, raw) {
    this.path = request.url;
    this.headers = request.headers;
    this.raw = raw;
    this.body = raw.length > 0 ? JSON.parse(raw) : {};
    this.response = response;
    this.aborted = false;  // the other side closed before the answer was complete
    this.closed = new Promise((resolve) => {
      response.on('close', () => { this.aborted = !response.writableFinished; resolve(); });
    });
  }
  get model() { return this.body.model; }
  // The whole text of a conversation as it was sent.
  get text() { return this.raw.toString('utf8'); }

  open() {
    this.response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    this.response.write(chunk(this.model, { role: 'assistant', content: '' }));
    return this;
  }
  say(...pieces) {
    for (const piece of pieces) this.response.write(chunk(this.model, { content: piece }));
    return this;
  }
  raw_event(text) { this.response.write(text); return this; }
  finish(usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 }, reason = 'stop') {
    this.response.write(chunk(this.model, {}, reason, usage));
    this.response.end('data: [DONE]\n\n');
  }
  answer(...pieces) { this.open().say(...pieces).finish(); }
  fail(status, error = { message: 'as the test wants', type: 'server_error', code: 'x' }, headers = {}) {
    this.response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    this.response.end(JSON.stringify({ error }));
  }
  // Closes the socket without an end, behind what was said.
  cut() {
    if (!this.response.headersSent) return this.response.socket?.destroy();
    this.response.write('\n', () => setImmediate(() => this.response.socket?.destroy()));
  }
}
