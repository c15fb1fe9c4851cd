// A PostgreSQL of a test's own: in a temporary directory, behind a Unix socket only.
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const versions = '/usr/lib/postgresql';

function programs() {
  const found = existsSync(versions) ? readdirSync(versions).filter(
    (version) => existsSync(join(versions, version, 'bin/initdb'))) : [];
  return found.length > 0 ? join(versions, found.sort().at(-1), 'bin') : null;
}

export class Postgres {
  // Null where none is installed; ./dev setup test installs it.
  static async start() {
    const bin = programs();
    if (!bin) return null;
    const postgres = new Postgres();
    postgres.dir = mkdtempSync('/tmp/tandem-pg-');  // a socket's path must be short
    const as = {};
    if (process.getuid() === 0) {  // which PostgreSQL refuses to be
      const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
      Object.assign(as, { uid: id('-u'), gid: id('-g') });
      chownSync(postgres.dir, as.uid, as.gid);
    }
    const data = join(postgres.dir, 'data');
    execFileSync(join(bin, 'initdb'), ['-D', data, '-U', 'tandem', '-A', 'trust', '-E', 'UTF8',
      '--locale=C', '--no-sync'], { ...as, cwd: '/', stdio: 'ignore' });
    postgres.process = spawn(join(bin, 'postgres'),
      ['-D', data, '-k', postgres.dir, '-h', '', '-F', '-c', 'shared_buffers=16MB'],
      { ...as, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    await new Promise((resolve, reject) => {
      let log = '';
      postgres.process.stderr.on('data', (text) => {
        log += text;
        if (log.includes('ready to accept connections')) resolve();
      });
      postgres.process.on('exit', () => reject(new Error(log)));
    });
    postgres.url = `postgresql://tandem@/postgres?host=${postgres.dir}`;
    return postgres;
  }

  async stop() {
    const gone = new Promise((resolve) => { this.process.on('exit', resolve); });
    this.process.kill('SIGQUIT');
    await gone;
    rmSync(this.dir, { recursive: true, force: true });
  }
}
