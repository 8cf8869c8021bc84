// The parts of the page that are texts and tables. Each function returns elements for what is known now.

// runsTable shows the runs side by side: which are drawn, and of which one the rest is shown.
function runsTable(runs, chosen, liveOf, on) {
  const columns = [['Run'], ['State'], ['Training loss', true], ['Base', true], ['Validation', true], ['Lowest', true], ['Export keeps', true],
    ['Tokens/s', true], ['Memory', true], ['Method'], ['Rank', true], ['Rate', true]];
  const rows = runs.map(r => {
    const title = el('span', {},
      el('input', {type: 'checkbox', id: `shown${r.id}`, checked: r.shown, 'aria-label': `draw ${r.name}`, change: e => on.show(r, e.target.checked)}), ' ', swatch(r.id),
      el('label', {}, el('input', {type: 'radio', name: 'chosen', id: `chosen${r.id}`, checked: r === chosen, change: () => on.choose(r)}), ' ', r.name));
    if (!r.shown && r.next === 0) return [title, 'not read'];
    const {done, steps} = r;
    return [title, r.standing(liveOf(r)), loss(r.trainLoss), loss(r.base), loss(r.lastVal), loss(r.bestVal), percent(r.retention),
      done || steps.rate.length ? thousands(done?.tokens_per_second ?? steps.rate.at(-1) ?? 0) : '–', r.memory ? mebibytes(r.memory) : '–',
      r.start?.method, r.setting('rank')?.toString(), short(Number(r.setting('lr')) || r.topRate)];
  });
  const t = table(columns, rows.map(row => columns.map((_, i) => row[i])), {class: 'runs'}).firstChild;
  t.tBodies[0].querySelectorAll('tr').forEach((tr, i) => tr.classList.toggle('chosen', runs[i] === chosen));
  return t;
}

// samplesOf shows what a run has answered, a step at a time.
function samplesOf(r, at, choose) {
  if (!r.samples.length) return [el('p', {class: 'quiet'}, 'This run answers no prompts. finetune train --samples 3 has it answer three of the validation data, with the base and at each validation.')];
  const shown = r.samples.find(e => (e.step ?? 0) === at) ?? r.samples.at(-1), base = r.samples.find(e => !e.step);
  const picker = el('select', {id: 'sample-step', 'aria-label': 'step', change: e => choose(Number(e.target.value))}, r.samples.map(e =>
    el('option', {value: e.step ?? 0, selected: e === shown}, e.step ? `after step ${thousands(e.step)}` : 'the base')));
  const rows = shown.samples.map((s, i) => [el('span', {class: 'wrap'}, s.prompt), el('span', {class: 'wrap'}, s.wanted),
    el('span', {class: 'wrap'}, s.base ?? base?.samples[i]?.text ?? '–'), el('span', {class: 'wrap'}, shown.step ? s.text : '–')]);
  return [el('p', {}, 'Answers ', picker), table([['Prompt'], ['In the data'], ['The base'], ['The run']], rows)];
}

// learnedOf shows which texts of the data are learned.
function learnedOf(d) {
  if (!d?.preview?.length) return [el('p', {class: 'quiet'}, 'This run has kept nothing of its data. finetune data preview shows what is learned of a file.')];
  return [
    el('p', {class: 'key'}, 'The first documents as the run reads them. ', el('mark', {}, 'What is marked is learned'), '; the rest is only read. Control tokens are coloured.'),
    d.preview.map(doc => el('div', {class: 'text'}, doc.parts.map(p => {
      const inner = p.special ? el('span', {class: 'special'}, p.text) : p.text;
      return p.learned ? el('mark', {}, inner) : inner;
    }), doc.cut ? el('span', {class: 'quiet'}, ' … and so on') : null)),
  ].flat();
}

const settingText = v => v === null || v === '' ? '–' : typeof v === 'string' ? v : JSON.stringify(v);

// settingsOf shows the settings of the runs that are drawn side by side, and the plan of the memory.
function settingsOf(r, runs, onlyDifferent, choose) {
  const known = [r, ...runs.filter(o => o !== r)].filter(o => o.details?.settings?.length);
  if (!known.length) return [el('p', {class: 'quiet'}, 'There are no settings yet.')];
  const keys = known[0].details.settings.map(s => s.key), differ = k => new Set(known.map(o => settingText(o.setting(k)))).size > 1;
  const rows = keys.filter(k => !onlyDifferent || differ(k)).map(k =>
    [k, ...known.map(o => el('span', {class: 'wrap' + (!onlyDifferent && differ(k) ? ' differs' : '')}, settingText(o.setting(k))))]);
  return [
    known.length > 1 ? el('p', {}, el('label', {}, el('input', {type: 'checkbox', id: 'only-different', checked: onlyDifferent, change: e => choose(e.target.checked)}), ' only what differs')) : null,
    table([['Setting'], ...known.map(o => [o.name])], rows),
    aboutData(r),
    planOf(r),
  ].flat();
}

function aboutData(r) {
  const lines = [...(r.start?.data ?? []), ...(r.start?.notes ?? []), ...(r.details?.notes ?? [])];
  return lines.length ? [el('h3', {}, 'Data'), ...lines.map(line => el('p', {class: 'wrap quiet'}, line))] : [];
}

const planned = ['weights', 'adapter', 'gradients', 'optimizer', 'activations', 'head', 'workspace', 'vocabulary', 'data', 'program', 'tracing', 'start'];

function planOf(r) {
  const plan = r.start?.plan, most = r.start?.planned_bytes;
  if (!plan || !most) return [];
  const rows = planned.filter(k => plan[k] >= 1 << 19).map(k => [k, mebibytes(plan[k]), bar(plan[k] / most)]);
  rows.push(['planned at most', mebibytes(most), bar(1)]);
  if (r.memory) rows.push(['so far', mebibytes(r.memory), bar(r.memory / most)]);
  return [el('h3', {}, 'Memory'), table([['Part'], ['', true], ['']], rows)];
}

function bar(share) {
  const inner = el('i');
  inner.style.width = `${Math.min(100, Math.max(0, 100 * share))}%`;
  return el('span', {class: 'bar', role: 'img', 'aria-label': percent(share)}, inner);
}

// exportsOf shows what each export keeps, and the matrices of the last one.
function exportsOf(d) {
  const all = d?.exports ?? [];
  if (!all.length) return [el('p', {class: 'quiet'}, 'Nothing was exported yet. finetune export writes a GGUF LoRA and measures what it keeps.')];
  const rows = all.map(e => [el('span', {class: 'wrap'}, e.file), e.mode, thousands(e.parameters), e.rank_min === e.rank_max ? String(e.rank_min) : `${e.rank_min}–${e.rank_max}`,
    mebibytes(e.bytes), loss(e.base_loss), loss(e.dual_loss), loss(e.export_loss), percent(e.retention)]);
  const last = all.at(-1), matrices = (last.tensors ?? []).map(m => [m.Name, String(m.Rank), percent(m.Energy), bar(m.Energy)]);
  return [
    table([['File'], ['Mode'], ['Parameters', true], ['Rank', true], ['Size', true], ['Loss, base', true], ['As trained', true], ['As exported', true], ['Kept', true]], rows),
    matrices.length ? [el('h3', {}, 'Energy kept by the last one'), table([['Matrix'], ['Rank', true], ['Kept', true], ['']], matrices)] : [],
  ].flat();
}

// adapterOf shows how much an adapter changes; m is what was measured, null before somebody asks.
function adapterOf(r, m, measure) {
  if (!r.details?.result) return [el('p', {class: 'quiet'}, 'The run has no result yet.')];
  if (!m) {
    return [el('p', {}, `The result has ${thousands(r.details.result)} bytes. How much each matrix is changed takes a moment to work out; of a large Dual LoRA, minutes.`),
      el('p', {}, el('button', {type: 'button', click: measure}, 'Measure'))];
  }
  if (m.busy) return [el('p', {class: 'quiet'}, 'Measuring …')];
  if (!m.adapter) return [el('p', {class: m.error ? 'error' : 'quiet'}, m.error || m.note || 'The run has trained the model itself: there is no adapter.')];
  const most = Math.max(...m.adapter.weights.map(w => w.norm ?? 0)) || 1;
  return [
    el('p', {}, `${m.adapter.method}, ${m.adapter.weights.length} matrices, ‖ΔW‖ ${short(m.adapter.norm)} in all`),
    table([['Matrix'], ['Shape'], ['Rank', true], ['Scale', true], ['‖ΔW‖', true], [''], ['Stable rank', true]],
      m.adapter.weights.map(w => [w.name, w.shape.join(' × '), String(w.rank), short(w.scale), short(w.norm), bar((w.norm ?? 0) / most), short(w.stable_rank)])),
  ];
}
