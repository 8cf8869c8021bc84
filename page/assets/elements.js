// Elements of the document. Texts of runs, data and models get into it here, as text nodes, and nowhere else: there is no markup in
// this script.

// el makes an element with attributes (functions are listeners, true and false switch an attribute on and off) and children.
function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') e.addEventListener(key, value);
    else if (value === true) e.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) e.setAttribute(key, value);
  }
  e.append(...children.flat().filter(c => c !== null && c !== undefined && c !== false));
  return e;
}

const byID = id => document.getElementById(id);

// table makes a table: columns are [title, is a number]; cells are texts, numbers or elements, the first of a row its title.
function table(columns, rows, attributes = {}) {
  const cell = (value, i) => el(i === 0 ? 'th' : 'td', {scope: i === 0 ? 'row' : null, class: columns[i][1] ? 'number' : null}, value ?? '–');
  return el('div', {class: 'scroll'}, el('table', attributes,
    el('thead', {}, el('tr', {}, columns.map(([title, number]) => el('th', {scope: 'col', class: number ? 'number' : null}, title)))),
    el('tbody', {}, rows.map(row => el('tr', {}, row.map(cell))))));
}

// dashes tell runs apart where colours do not.
const dashes = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
const dashOf = id => dashes[Math.floor(id / 8 + id) % dashes.length];

// swatch is the line by which a run is drawn.
function swatch(id) {
  const make = (name, attributes) => {
    const e = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    return e;
  };
  const s = make('svg', {width: 26, height: 8, class: 'run' + id % 8, 'aria-hidden': 'true'});
  s.append(make('line', {x1: 0, x2: 26, y1: 4, y2: 4, 'stroke-dasharray': dashOf(id).join(' ')}));
  return s;
}
