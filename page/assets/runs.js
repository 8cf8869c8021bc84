// What is known of the runs, and how it comes here.

// report holds the data of a page that was saved; null where the program serves it.
const report = byID('report') && JSON.parse(byID('report').textContent);

// token is what every question shows. It stands behind the # of the address, so that it survives a reload and goes nowhere by itself.
const token = location.hash.slice(1);

// ask sends a question to the program and returns the answer. A refusal is an error with what it says and its status; that nobody
// answers is one that is marked as gone.
async function ask(path, options = {}) {
  const answer = await fetch(path, {...options, cache: 'no-store', headers: {...options.headers, Authorization: 'Bearer ' + token}}).catch(e => {
    throw e.name === 'AbortError' ? e : Object.assign(e, {gone: true});
  });
  if (answer.ok) return answer;
  let why = `${answer.status} ${answer.statusText}`;
  try {
    why = (await answer.json()).error.message;
  } catch { /* no JSON: the status has to do */ }
  throw Object.assign(new Error(why), {status: answer.status});
}

const columnsOf = ['step', 'loss', 'lr', 'norm', 'rate', 'raw', 'memory'];

// smoothOf are columns that jump, of which there is a running mean too, as the program shows it: a tenth of each new value.
const smoothOf = {loss: 'smoothLoss', norm: 'smoothNorm'};

class Run {
  constructor(id, name) {
    Object.assign(this, {id, name, shown: false, details: null, bytes: 0, changed: 0, age: 0, exports: 0});
    this.forget();
  }

  forget() {
    Object.assign(this, {next: 0, read: -1, start: null, done: null, evals: [], samples: [], checkpoint: 0, left: 0, total: 0});
    this.steps = Object.fromEntries([...columnsOf, ...Object.values(smoothOf)].map(c => [c, []]));
    this.topRate = null;
  }

  // add takes a chunk of the log. Steps that come again, because the run was resumed, take the place of what was there.
  add(chunk) {
    if (chunk.again) this.forget();
    const s = this.steps, more = chunk.steps.step ?? [];
    if (more.length) {
      let keep = s.step.length;
      while (keep > 0 && s.step[keep - 1] >= more[0]) keep--;
      for (const c of columnsOf) {
        s[c].length = keep;
        for (const value of chunk.steps[c]) s[c].push(c === 'memory' && value !== null ? value / (1 << 20) : value);
      }
      for (const [c, smooth] of Object.entries(smoothOf)) {
        s[smooth].length = keep;
        let mean = s[smooth].at(-1) ?? null;
        for (const value of chunk.steps[c]) {
          if (value !== null) mean = mean === null ? value : 0.9 * mean + 0.1 * value;
          s[smooth].push(value === null ? null : mean);
        }
      }
      for (const value of chunk.steps.lr) this.topRate = Math.max(this.topRate ?? 0, value ?? 0);
      this.left = chunk.left ?? 0;
      this.total = chunk.total ?? 0;
      this.done = null;
    }
    for (const e of chunk.evals ?? []) this.evals = [...this.evals.filter(known => known.step !== e.step || known.initial !== e.initial), e];
    for (const e of chunk.samples ?? []) this.samples = [...this.samples.filter(known => (known.step ?? 0) !== (e.step ?? 0)), e];
    if (chunk.start) this.start = chunk.start;
    if (chunk.start && !more.length) this.done = null;
    if (chunk.done) this.done = chunk.done;
    if (chunk.checkpoint) this.checkpoint = chunk.checkpoint;
    this.next = chunk.next;
  }

  // fetch reads what the log has more than is known here, and reports whether that was something.
  async fetch() {
    if (this.bytes === this.read) return false;
    const bytes = this.bytes;
    for (let more = true; more;) {
      const chunk = await (await ask(`/api/runs/${this.id}/log?from=${this.next}`)).json();
      this.add(chunk);
      more = chunk.more;
    }
    this.read = bytes;
    return true;
  }

  async learn() {
    this.details = await (await ask(`/api/runs/${this.id}`)).json();
  }

  get step() { return this.steps.step.at(-1) ?? 0; }
  get base() { return this.evals.find(e => e.step === 0 && !e.initial)?.loss; }
  get lastVal() { return this.done?.val_loss ?? this.evals.filter(e => e.step > 0 || e.initial).at(-1)?.loss; }
  get bestVal() {
    const all = this.evals.filter(e => e.step > 0 && e.loss !== null).map(e => e.loss);
    return all.length ? Math.min(...all) : null;
  }
  get trainLoss() { return this.steps.smoothLoss.at(-1); }
  get memory() { return this.done?.peak_memory_bytes ?? (this.steps.memory.at(-1) ?? 0) * (1 << 20); }
  get retention() {
    const all = (this.details?.exports ?? []).map(e => e.retention).filter(x => x !== null && x !== undefined);
    return all.at(-1);
  }

  setting(key) { return this.details?.settings?.find(s => s.key === key)?.value; }

  // standing says in words how far the run has come.
  standing(live) {
    const of = this.total || this.start?.total_steps || 0;
    if (live?.failed) return `ended: ${live.failed}`;
    if (this.done) return `done, ${thousands(this.done.steps)} steps in ${clock(this.done.seconds)}`;
    if (live?.stopping && !live.ended) return 'stopping after this step';
    if (live?.doing) return live.doing;
    if (!this.start) return 'nothing in its log yet';
    const at = `step ${thousands(this.step)} of ${thousands(of)}`;
    if (report || live?.ended) return `${at}, not finished`;
    if (live || this.age < 60000) return this.step ? `${at}, ${clock(this.left)} left` : 'before the first step';
    return `${at}, not finished, silent for ${clock(this.age / 1000)}`;
  }
}
