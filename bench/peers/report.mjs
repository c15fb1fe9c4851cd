// What bench/peers/run.mjs prints.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

export const machineText = (machine) => `${machine.threads} threads, reads ${(machine.read_bytes_per_second / 1e9).toFixed(1)} GB/s, `
  + `${machine.core_to_core_ns.toFixed(0)} ns from core to core, at most ${(machine.int8_products_per_second / 1e9).toFixed(0)} G int8 products/s`;

// Two cores of one core complex answer each other within some 30 ns, of two in 160.
const stateOf = (machine) => (machine.core_to_core_ns === 0 ? '-' : machine.core_to_core_ns < 80 ? 'A' : 'B');

function name({ prefill, sequences, depth = 0 }) {
  if (prefill) return `prefill ${prefill}`;
  return `decode ${sequences} x${depth ? `, ${depth} deep` : ''}`;
}

const settingText = ({ flash = true, cache = 'f16' }) => `${flash ? 'flash' : 'no flash'}, ${cache}`;

function line(cells) {
  console.log(`| ${cells.join(' | ')} |`);
}

// One line for each row and state of the machine in which turns counted.
export function printRows(rows, machine, model) {
  if (rows.length === 0) return;
  line(['row', 'state', 'Tandem tok/s', 'llama.cpp tok/s', 'ratio', 'of bandwidth', 'of int8 peak', 'turns (dropped)', 'llama.cpp with']);
  line(new Array(9).fill('---'));
  for (const { row, setting, turns } of rows) {
    const kept = turns.filter(({ machine: { changes } }) => (changes ?? []).length === 0);
    // Where none counted, all are shown, and said to be worthless.
    const shown = kept.length > 0 ? kept : turns;
    for (const state of new Set(shown.map((turn) => stateOf(turn.machine)))) {
      const here = shown.filter((turn) => stateOf(turn.machine) === state);
      const [ours, theirs] = ['tandem', 'peer'].map((side) => median(here.map((turn) => turn[side])));
      const steps = row.prefill ? ours / row.prefill : ours / row.sequences;
      const bandwidth = median(here.map((turn) => turn.machine.read_bytes_per_second));
      const products = row.prefill
        ? (model.products_per_token - model.head_products) * row.prefill + model.head_products
        : model.products_per_token * row.sequences;
      const percent = (share) => `${(100 * share).toFixed(0)} %`;
      line([name(row), kept.length > 0 ? state : `${state} (disturbed)`, ours.toFixed(2), theirs.toFixed(2), (ours / theirs).toFixed(2),
        percent(steps * model.bytes_per_token / bandwidth),
        machine.int8_products_per_second > 0 ? percent(steps * products / machine.int8_products_per_second) : '-',
        `${here.length} (${turns.length - kept.length})`, settingText(setting)]);
    }
  }
  console.log('');
}

export function printStarts({ warm, cold }) {
  const of = (runs, side, field) => median(runs.map((run) => run[side][field]));
  const peaks = (side) => median([...warm, ...cold].map((run) => run[side].peak_bytes)) / 1e9;
  line(['start', 'Tandem', 'llama.cpp', 'ratio']);
  line(new Array(4).fill('---'));
  for (const [kind, runs] of [['warm', warm], ['cold', cold]]) {
    const [ours, theirs] = [of(runs, 'tandem', 'ms'), of(runs, 'peer', 'ms')];
    line([`first token of ${runs[0].tandem.tokens}, ${kind} page cache`, `${(ours / 1000).toFixed(2)} s`, `${(theirs / 1000).toFixed(2)} s`, (ours / theirs).toFixed(2)]);
  }
  line(['peak resident memory, context 1,024', `${peaks('tandem').toFixed(2)} GB`, `${peaks('peer').toFixed(2)} GB`, (peaks('tandem') / peaks('peer')).toFixed(2)]);
  const anonymous = median(warm.map((run) => run.peer.anonymous_bytes)) / 1e9;
  console.log(`\nllama.cpp's peak counts ${anonymous.toFixed(2)} GB of its own memory at the end and the pages of its file mapping;`
    + " Tandem's counts the pages of its package that it touched, which other processes share.");
}
