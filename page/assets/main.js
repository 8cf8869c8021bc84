// The page as a whole: asks the program what is new, and draws what has changed.

const interval = 3000; // milliseconds between two questions
const mostDrawn = 6; // runs that are drawn unasked, the newest

const page = {runs: new Map(), chosen: null, live: null, tab: 'Samples', sample: null, onlyDifferent: true, measured: new Map(), talks: new Map(), timer: 0, busy: false, drawn: false};

const plots = {
  loss: new Plot(byID('plots'), {title: 'Training loss', unit: 'nats a token'}),
  val: new Plot(byID('plots'), {title: 'Validation loss', unit: 'nats a token'}),
  lr: new Plot(byID('plots'), {title: 'Learning rate', unit: 'per step', zero: true}),
  rate: new Plot(byID('plots'), {title: 'Throughput', unit: 'trained tokens/s so far; faint: all', zero: true}),
  memory: new Plot(byID('plots'), {title: 'Memory', unit: 'MiB at most so far; dotted: plan', zero: true}),
  norm: new Plot(byID('plots'), {title: 'Gradient norm', unit: 'before clipping', zero: true}),
};

const tabs = ['Samples', 'Data', 'Settings', 'Export', 'Adapter', 'Chat'].filter(t => !report || t !== 'Adapter' && t !== 'Chat');

const liveOf = r => page.live && r.id === 0 ? page.live : null;
const shownRuns = () => [...page.runs.values()].filter(r => r.shown);

function drawCurves() {
  const runs = shownRuns().filter(r => r.steps.step.length || r.evals.length);
  const of = make => runs.flatMap(r => make(r).map(s => ({id: r.id, name: r.name, ...s})));
  const log = byID('log').checked, MiB = 1 << 20;
  const jumping = (s, y, mean) => byID('smooth').checked ? [{x: s.step, y, faint: true}, {x: s.step, y: mean}] : [{x: s.step, y}];
  plots.loss.show(of(({steps: s}) => jumping(s, s.loss, s.smoothLoss)), log);
  plots.val.show(of(r => [{x: r.evals.map(e => e.step), y: r.evals.map(e => e.loss), points: true}]), log);
  plots.lr.show(of(({steps: s}) => [{x: s.step, y: s.lr}]));
  plots.rate.show(of(({steps: s}) => [{x: s.step, y: s.raw, faint: true}, {x: s.step, y: s.rate}]));
  plots.memory.show(of(({steps: s, start}) => [{x: s.step, y: s.memory}, ...start?.planned_bytes ? [{level: start.planned_bytes / MiB}] : []]));
  plots.norm.show(of(({steps: s}) => jumping(s, s.norm, s.smoothNorm)));
}

// keepFocus has a part of the page made anew without taking the keyboard out of it.
function keepFocus(root, make) {
  const id = root.contains(document.activeElement) ? document.activeElement.id : '';
  root.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
  if (id) byID(id)?.focus();
}

// drawRuns makes the table, or where only numbers have changed writes them into the one that is there, so that nobody's click or
// selection is lost.
function drawRuns() {
  const all = [...page.runs.values()], shape = all.map(r => [r.id, r.shown, r === page.chosen, r.next > 0]).join(';');
  const fresh = all.length ? runsTable(all, page.chosen, liveOf, {
    show: (r, shown) => { r.shown = shown; refresh(r).then(drawAll); },
    choose: r => { Object.assign(page, {chosen: r, sample: null}); r.shown = true; refresh(r).then(drawAll); },
  }) : el('p', {class: 'hint'}, 'There is no run here yet.');
  if (page.shape !== shape) keepFocus(byID('runs'), () => fresh);
  else {
    const cells = byID('runs').querySelectorAll('td');
    fresh.querySelectorAll('td').forEach((cell, i) => { if (cells[i].textContent !== cell.textContent) cells[i].textContent = cell.textContent; });
  }
  page.shape = shape;
}

function drawStatus() {
  const r = page.chosen, live = page.live;
  if (!r) return say('There is no run here yet.');
  say(`${r.name}: ${r.standing(liveOf(r))}`);
  document.title = `${r.name} · finetune`;
  const of = r.total || r.start?.total_steps || 0;
  byID('progress').hidden = !of || Boolean(r.done);
  byID('progress').value = of ? r.step / of : 0;
  byID('stop').hidden = !live || live.ended || Boolean(page.runs.get(0)?.done);
  byID('stop').disabled = Boolean(live?.stopping);
  byID('save').hidden = Boolean(report) || r.next === 0;
}

const say = text => { if (byID('status').textContent !== text) byID('status').textContent = text; };

function drawTabs() {
  byID('one-title').textContent = page.chosen ? page.chosen.name : '';
  const pick = (name, focus) => {
    page.tab = name;
    drawTabs();
    drawPanel();
    if (focus) byID('tab-' + name).focus();
  };
  byID('tabs').replaceChildren(...tabs.map((name, i) => el('button', {
    type: 'button', role: 'tab', id: 'tab-' + name, 'aria-selected': String(name === page.tab), 'aria-controls': 'panel', tabindex: name === page.tab ? 0 : -1,
    click: () => pick(name, true),
    keydown: e => {
      const to = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1}[e.key];
      if (to === undefined) return;
      e.preventDefault();
      pick(tabs[(to + tabs.length) % tabs.length], true);
    },
  }, name)));
  byID('panel').setAttribute('aria-labelledby', 'tab-' + page.tab);
}

function drawPanel() {
  const r = page.chosen, panel = byID('panel');
  if (!r) return panel.replaceChildren();
  if (page.tab === 'Chat') {
    if (!page.talks.has(r)) page.talks.set(r, new Talk(r));
    const talk = page.talks.get(r);
    if (!talk.opened) talk.render();
    if (panel.firstChild !== talk.body) panel.replaceChildren(talk.body);
    return;
  }
  keepFocus(panel, () => ({
    Samples: () => samplesOf(r, page.sample, step => { page.sample = step; drawPanel(); }),
    Data: () => learnedOf(r.details),
    Settings: () => settingsOf(r, shownRuns(), page.onlyDifferent && shownRuns().length > 1, only => { page.onlyDifferent = only; drawPanel(); }),
    Export: () => exportsOf(r.details),
    Adapter: () => adapterOf(r, page.measured.get(r), () => measure(r)),
  })[page.tab]());
}

async function measure(r) {
  page.measured.set(r, {busy: true});
  drawPanel();
  try {
    page.measured.set(r, await (await ask(`/api/runs/${r.id}/adapter`)).json());
  } catch (e) {
    page.measured.set(r, {error: e.message});
  }
  drawPanel();
}

function drawAll() {
  drawStatus();
  drawRuns();
  drawCurves();
  if (page.drawnOf !== page.chosen) drawTabs();
  page.drawnOf = page.chosen;
  drawPanel();
}

// told is what the panel depends on but for the numbers of steps.
const told = r => [r.name, Boolean(r.start), Boolean(r.done), r.samples.length, r.exports].join();

// refresh reads what is new of a run, and returns how much that was: 0 nothing, 1 steps, 2 more than that.
async function refresh(r) {
  const [changed] = await Promise.all([r.fetch(), r.details ?? r.learn()]);
  if (told(r) === r.told) return Number(changed);
  if (r.told !== undefined) await r.learn();
  r.told = told(r);
  return 2;
}

// tick asks once for what is new.
async function tick() {
  const state = await (await ask('/api/state')).json();
  const fresh = state.runs.filter(s => !page.runs.has(s.id));
  for (const s of fresh) page.runs.set(s.id, new Run(s.id, s.name));
  let changed = fresh.length ? 2 : 0;
  page.live = state.live ?? null;
  for (const s of state.runs) Object.assign(page.runs.get(s.id), {bytes: s.bytes, changed: s.changed, age: s.age, exports: s.exports});
  if (fresh.length) {
    const newest = [...page.runs.values()].sort((a, b) => b.changed - a.changed);
    newest.slice(0, mostDrawn).filter(r => fresh.some(s => s.id === r.id)).forEach(r => { r.shown = true; });
    if (page.live) page.runs.get(0).shown = true;
    page.chosen ??= page.live ? page.runs.get(0) : newest[0];
  }
  for (const r of shownRuns()) changed = Math.max(changed, await refresh(r));
  if (changed > 1) return drawAll();
  drawStatus();
  if (changed) {
    drawRuns();
    drawCurves();
  }
}

// watch ticks as long as the program answers. What it does not answer any more stays as it is.
async function watch() {
  if (page.busy) return;
  page.busy = true;
  let pause = interval;
  try {
    if (!document.hidden || !page.chosen) await tick();
    if (!page.drawn) requestAnimationFrame(() => performance.mark('drawn')); // behind the curves: how long the first picture took
    page.drawn = true;
  } catch (e) {
    if (e.status === 401) return say('The address of this page lacks its token: take the whole one that the program prints, with what stands behind #.');
    if (!e.status && !e.gone) throw e;
    pause = 5 * interval;
    if (e.status) say(e.message);
    else if (farewell()) return;
  } finally {
    page.busy = false;
  }
  page.timer = setTimeout(watch, pause);
}

// farewell says that the program answers no more, and reports whether it told before that it would end.
function farewell() {
  const told = page.live?.ended || page.live?.stopping || page.live && page.runs.get(0)?.done;
  byID('stop').hidden = byID('save').hidden = true;
  say(told ? `${byID('status').textContent} – the program has ended, this is the last it told. finetune ui shows the run again.`
    : 'The program does not answer: it has ended, or is stopped. What it told is still here.');
  return told;
}

async function save() {
  const blob = await (await ask(`/api/runs/${page.chosen.id}/report`)).blob();
  const link = el('a', {href: URL.createObjectURL(blob), download: 'report.html'});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function stop() {
  try {
    page.live = await (await ask('/api/stop', {method: 'POST'})).json();
    drawStatus();
  } catch (e) {
    say(e.message);
  }
}

function begin() {
  for (const id of ['log', 'smooth']) byID(id).addEventListener('change', drawCurves);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => cursor.plots.forEach(p => p.change()));
  byID('stop').addEventListener('click', stop);
  byID('save').addEventListener('click', () => save().catch(e => say(e.message)));
  if (!report) {
    document.addEventListener('visibilitychange', () => { if (!document.hidden && page.timer) { clearTimeout(page.timer); watch(); } });
    return watch();
  }
  for (const r of report.runs) {
    const run = new Run(r.id, r.name);
    run.add(r.log);
    Object.assign(run, {details: r.details, shown: page.runs.size < mostDrawn});
    page.runs.set(r.id, run);
    page.chosen ??= run;
  }
  drawAll();
  byID('status').append(` · as of ${report.made.replace('T', ' ').replace('Z', ' UTC')}`);
}

begin();
