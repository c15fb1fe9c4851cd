// A configuration file in a directory of its own.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class ConfigFile {
  constructor(text, name = 'tandem.toml') {
    this.dir = mkdtempSync(join(tmpdir(), 'tandem-config-'));
    this.path = join(this.dir, name);
    this.write(text);
  }
  write(text) { writeFileSync(this.path, text); }
  remove() { rmSync(this.dir, { recursive: true, force: true }); }
}

// [[upstream]] sections: {model: url}.
export function upstreams(urls, fields = '') {
  return Object.entries(urls).map(([model, url]) => `
[[upstream]]
model = "${model}"
base_url = "${url}"
api_key_env = "TEST_KEY"
${fields}`).join('');
}
