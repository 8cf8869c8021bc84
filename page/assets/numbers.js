'use strict';
// Numbers as people read them.

const thousands = n => Math.round(n).toLocaleString('en-US');

// short writes a number in four digits or so.
function short(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return '–';
  const size = Math.abs(x);
  if (size >= 10000) return thousands(x);
  if (size !== 0 && size < 0.01) return String(Number(x.toExponential(2).split('e')[0])) + x.toExponential(2).replace(/.*e-/, 'e−');
  return String(Number(x.toPrecision(4)));
}

const loss = x => x === null || x === undefined ? '–' : x.toFixed(4);
const percent = x => x === null || x === undefined ? '–' : (100 * x).toFixed(1) + ' %';
const mebibytes = n => n < 1 << 20 ? thousands(n / 1024) + ' KiB' : thousands(n / (1 << 20)) + ' MiB';

// clock writes seconds as the program does: 42 s, 3 min 5 s, 2 h 10 min.
function clock(seconds) {
  const all = Math.round(seconds), h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60, s = all % 60;
  if (h >= 48) return `${Math.floor(h / 24)} days`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s} s` : `${s} s`;
}

// ticks returns round numbers from low to high, about as many as wanted.
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(m => m * power >= rough);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) all.push(i * step + 0); // + 0: no −0
  return all;
}

// logTicks returns 1, 2 and 5 times powers of ten, or round numbers where fewer than two of them are in between.
function logTicks(low, high) {
  const all = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
    for (const m of [1, 2, 5]) if (m * 10 ** p >= low && m * 10 ** p <= high) all.push(m * 10 ** p);
  }
  return all.length < 2 ? ticks(low, high, 4).filter(t => t > 0) : all;
}

// distinct writes numbers by a format, or with as many digits as tell them apart.
function distinct(numbers, format) {
  let all = numbers.map(format);
  for (let digits = 4; digits < 12 && new Set(all).size < all.length; digits++) all = numbers.map(x => String(Number(x.toPrecision(digits))));
  return all;
}
