// Curves on a canvas: numbers over steps, of several runs.

// onScreen tells of the elements on the screen, so that what nobody sees is not drawn.
const onScreen = new IntersectionObserver(entries => entries.forEach(e => e.target.plot.seen(e.isIntersecting)), {rootMargin: '100px'});
const resized = new ResizeObserver(entries => entries.forEach(e => e.target.plot.change()));

// cursor is the step that all plots point at, null for none.
const cursor = {
  step: null, plots: [],
  set(step) {
    this.step = step;
    this.plots.forEach(p => p.point());
  },
};

class Plot {
  // title, unit behind it, format of values, and whether 0 belongs to the axis.
  constructor(parent, {title, unit = '', format = short, zero = false}) {
    Object.assign(this, {title, unit, format, zero, log: false, series: [], visible: false, dirty: true, queued: false});
    this.canvas = el('canvas', {tabindex: 0, role: 'img'});
    this.over = el('canvas', {class: 'cursor', 'aria-hidden': 'true'});
    this.readout = el('div', {class: 'readout', role: 'status', hidden: true});
    this.box = el('div', {class: 'curve'}, this.canvas, this.over);
    parent.append(el('figure', {}, el('figcaption', {}, el('b', {}, title), el('span', {}, unit)), this.box, this.readout));
    this.box.plot = this;
    onScreen.observe(this.box);
    resized.observe(this.box);
    cursor.plots.push(this);
    this.canvas.addEventListener('pointermove', e => cursor.set(this.stepAt(e.offsetX)));
    this.canvas.addEventListener('pointerleave', () => cursor.set(null));
    this.canvas.addEventListener('blur', () => cursor.set(null));
    this.canvas.addEventListener('keydown', e => this.key(e));
  }

  // show takes series: {name, id, x, y, faint, points, level}; x ascends, and y may hold null. level is one number for all steps.
  show(series, log = false) {
    Object.assign(this, {series, log});
    this.change();
  }

  seen(visible) {
    this.visible = visible;
    if (visible && this.dirty) this.change();
  }

  change() {
    this.dirty = true;
    if (!this.visible || this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = this.dirty = false;
      this.draw();
      this.point();
    });
  }

  // range finds what the axes span.
  range() {
    let low = Infinity, high = -Infinity, from = Infinity, to = -Infinity;
    const take = y => {
      if (y === null || y === undefined || this.log && !(y > 0)) return;
      if (y < low) low = y;
      if (y > high) high = y;
    };
    for (const s of this.series) {
      if (s.level !== undefined) { take(s.level); continue; }
      if (!s.x.length) continue;
      from = Math.min(from, s.x[0]);
      to = Math.max(to, s.x[s.x.length - 1]);
      for (let i = 0; i < s.y.length; i++) take(s.y[i]);
    }
    if (!(high >= low) || !(to >= from)) return null;
    if (this.zero) low = Math.min(0, low);
    if (this.log) {
      const pad = Math.max((high / low) ** 0.04, 1.001);
      return {low: low / pad, high: high * pad, from, to: Math.max(to, from + 1)};
    }
    const pad = (high - low || Math.abs(high) || 1) * 0.05;
    return {low: this.zero && low === 0 ? 0 : low - pad, high: high + pad, from, to: Math.max(to, from + 1)};
  }

  draw() {
    const style = getComputedStyle(this.box), colour = name => style.getPropertyValue(name).trim();
    const ratio = window.devicePixelRatio || 1, width = this.box.clientWidth, height = this.box.clientHeight;
    for (const c of [this.canvas, this.over]) {
      if (c.width !== Math.round(width * ratio) || c.height !== Math.round(height * ratio)) {
        c.width = Math.round(width * ratio);
        c.height = Math.round(height * ratio);
      }
    }
    const g = this.canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = '11px ' + style.fontFamily;
    const r = this.area = this.range();
    this.describe();
    if (!r) {
      g.fillStyle = colour('--quiet');
      g.textAlign = 'center';
      g.fillText('nothing measured yet', width / 2, height / 2);
      return;
    }
    const marks = this.log ? logTicks(r.low, r.high) : ticks(r.low, r.high, height / 45);
    const labels = distinct(marks, this.format), left = 10 + Math.max(...labels.map(text => g.measureText(text).width), 20);
    Object.assign(r, {left, right: width - 10, top: 8, bottom: height - 32, colour});
    this.axes(g, r, marks, labels);
    g.save();
    g.beginPath();
    g.rect(r.left, r.top - 2, r.right - r.left + 2, r.bottom - r.top + 4);
    g.clip();
    for (const s of this.series) this.curve(g, r, s);
    g.restore();
  }

  axes(g, r, marks, labels) {
    g.strokeStyle = r.colour('--line');
    g.fillStyle = r.colour('--quiet');
    g.lineWidth = 1;
    g.textAlign = 'right';
    g.textBaseline = 'middle';
    for (const [i, t] of marks.entries()) {
      const y = Math.round(this.y(t)) + 0.5;
      g.beginPath();
      g.moveTo(r.left, y);
      g.lineTo(r.right, y);
      g.stroke();
      g.fillText(labels[i], r.left - 6, y);
    }
    g.textAlign = 'center';
    g.textBaseline = 'alphabetic';
    let free = 0; // from where on there is room for a label
    for (const t of ticks(r.from, r.to, (r.right - r.left) / 50).filter(Number.isInteger)) {
      const label = thousands(t), half = g.measureText(label).width / 2, x = Math.min(this.x(t), r.right - half);
      if (x - half < free) continue;
      g.fillText(label, x, r.bottom + 14);
      free = x + half + 8;
    }
    g.fillText('step', (r.left + r.right) / 2, r.bottom + 27);
  }

  x(step) { return this.area.left + (step - this.area.from) / (this.area.to - this.area.from) * (this.area.right - this.area.left); }

  y(value) {
    const r = this.area;
    const share = this.log ? Math.log(value / r.low) / Math.log(r.high / r.low) : (value - r.low) / (r.high - r.low);
    return r.bottom - share * (r.bottom - r.top);
  }

  // curve draws one series: of each column of pixels the first, lowest, highest and last value, so that no peak is lost and ten
  // thousand steps cost no more than the screen is wide.
  curve(g, r, s) {
    g.strokeStyle = g.fillStyle = r.colour('--run' + s.id % 8);
    g.globalAlpha = s.faint ? 0.3 : 1;
    g.lineWidth = s.faint ? 1 : 1.75;
    g.lineJoin = 'round';
    g.setLineDash(s.level !== undefined ? [3, 4] : s.faint ? [] : dashOf(s.id));
    g.beginPath();
    if (s.level !== undefined) {
      g.moveTo(r.left, this.y(s.level));
      g.lineTo(r.right, this.y(s.level));
    } else {
      this.trace(g, s);
    }
    g.stroke();
    g.setLineDash([]);
    if (s.points && s.x.length <= (r.right - r.left) / 6) {
      for (let i = 0; i < s.x.length; i++) {
        if (s.y[i] === null) continue;
        g.beginPath();
        g.arc(this.x(s.x[i]), this.y(s.y[i]), 2.5, 0, 2 * Math.PI);
        g.fill();
      }
    }
    g.globalAlpha = 1;
  }

  trace(g, s) {
    let column = null, at = 0, first = 0, low = 0, high = 0, last = 0, begun = false;
    const to = (x, y) => {
      if (begun) g.lineTo(x, y);
      else g.moveTo(x, y);
      begun = true;
    };
    const flush = () => {
      if (column === null) return;
      to(at, first);
      if (high !== low) {
        to(at, low);
        to(at, high);
        to(at, last);
      }
      column = null;
    };
    for (let i = 0; i < s.x.length; i++) {
      const value = s.y[i];
      if (value === null || value === undefined || this.log && !(value > 0)) { // a gap
        flush();
        begun = false;
        continue;
      }
      const x = this.x(s.x[i]), y = this.y(value), here = Math.floor(x);
      if (here !== column) {
        flush();
        column = here;
        at = x;
        first = low = high = y;
      }
      if (y < low) low = y;
      if (y > high) high = y;
      last = y;
    }
    flush();
  }

  // describe says what the picture shows to who does not see it.
  describe() {
    const parts = this.series.filter(s => !s.faint && s.level === undefined && s.x.length).map(s =>
      `${s.name} from ${this.format(s.y[0])} at step ${s.x[0]} to ${this.format(s.y[s.y.length - 1])} at step ${s.x[s.x.length - 1]}`);
    this.canvas.setAttribute('aria-label', `${this.title} ${this.unit}: ${parts.join('; ') || 'nothing measured yet'}`);
  }

  stepAt(x) {
    const r = this.area;
    if (!r || x < r.left - 8) return null;
    return Math.round(r.from + (x - r.left) / (r.right - r.left) * (r.to - r.from));
  }

  key(e) {
    const r = this.area, leap = r && Math.max(1, Math.round((r.to - r.from) / 50));
    if (!r) return;
    const now = cursor.step ?? r.to;
    const next = {ArrowLeft: now - (e.shiftKey ? 1 : leap), ArrowRight: now + (e.shiftKey ? 1 : leap), Home: r.from, End: r.to, Escape: null}[e.key];
    if (next === undefined) return;
    e.preventDefault();
    cursor.set(next === null ? null : Math.min(r.to, Math.max(r.from, next)));
  }

  // point draws the cursor and tells the values there.
  point() {
    const g = this.over.getContext('2d'), r = this.area, ratio = window.devicePixelRatio || 1;
    const pointing = r && r.colour && cursor.step !== null && cursor.step >= r.from && cursor.step <= r.to;
    this.readout.hidden = !pointing;
    if (this.pointed || pointing) {
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, this.over.width, this.over.height);
    }
    this.pointed = pointing;
    if (!pointing) return;
    g.strokeStyle = r.colour('--quiet');
    g.beginPath();
    g.moveTo(this.x(cursor.step), r.top);
    g.lineTo(this.x(cursor.step), r.bottom);
    g.stroke();
    const lines = [el('div', {class: 'quiet'}, `step ${thousands(cursor.step)}`)];
    for (const s of this.series) {
      if (s.faint || s.level !== undefined) continue;
      const i = nearest(s.x, cursor.step);
      if (i < 0 || s.y[i] === null || s.y[i] === undefined) continue;
      g.fillStyle = r.colour('--run' + s.id % 8);
      g.beginPath();
      g.arc(this.x(s.x[i]), this.y(s.y[i]), 3.5, 0, 2 * Math.PI);
      g.fill();
      lines.push(el('div', {class: `coloured run${s.id % 8}`}, `${this.format(s.y[i])}  ${s.name}` + (s.points && s.x[i] !== cursor.step ? `, step ${thousands(s.x[i])}` : '')));
    }
    this.readout.replaceChildren(...lines);
  }
}

// nearest returns the index of the step in ascending x that is next to a step, -1 where there are none.
function nearest(x, step) {
  let from = 0, to = x.length - 1;
  while (from < to) {
    const mid = (from + to) >> 1;
    if (x[mid] < step) from = mid + 1;
    else to = mid;
  }
  return from > 0 && step - x[from - 1] <= x[from] - step ? from - 1 : from < x.length ? from : -1;
}
