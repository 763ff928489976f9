// What all parts of the page use: elements, numbers, what the reader has chosen, and the data.
// The parts share one scope (see _script in __init__.py); live.js, the last one, starts them.

const ROWS_AT_FIRST = matchMedia("(max-width: 40rem)").matches ? 40 : 100; // what follows the table stays in reach
const ROWS_AT_A_TIME = 500;
const ROWS_ON_PAPER = 1000;
const PICTURES_AT_FIRST = matchMedia("(max-width: 40rem)").matches ? 12 : 28;
const LINES_AT_FIRST = 8;
const NEAR = 24; // pixels from the pointer: lines that are told in its tip
const POLL_MS = 2000;
const MARKS = [
  "M-3.6,0a3.6,3.6 0 1,0 7.2,0a3.6,3.6 0 1,0 -7.2,0",
  "M-3.2,-3.2h6.4v6.4h-6.4z",
  "M0,-4.2L4,3H-4z",
  "M0,-4.6L4.6,0L0,4.6L-4.6,0z",
  "M0,4.2L4,-3H-4z",
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const KINDS = ["clean", "attack", "worst"];
const NUMBERS = new Set(["eps", "accuracy", "success", "controls", "distance", "passes", "seconds", "n"]);
const natural = new Intl.Collator("en", { numeric: true });

const $ = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

// Text goes in as text, never as markup: names come from the store.
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// As in __init__.py, where the page is first written.
function tenths(value) { // as Python rounds: a tie goes to the even digit
  return (20 * value) % 2 === 1 ? ((2 * Math.round(5 * value)) / 10).toFixed(1) : value.toFixed(1);
}
const percent = (value) => tenths(100 * value);
const interval = (row) => `${percent(row.low)}–${percent(row.high)}`;
function number(value) {
  if (value === null) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e4)) {
    const [digits, power] = value.toExponential(3).split("e");
    return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }
  return String(Number(value.toPrecision(4)));
}
function count(value) {
  for (const [limit, unit, one] of [[1e9, "G", 1e9], [1e6, "M", 1e6], [1e4, "k", 1e3]])
    if (value >= limit) return `${tenths(value / one)} ${unit}`;
  return value.toLocaleString("en");
}
function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 1) return `${(1000 * seconds).toFixed(0)} ms`;
  if (seconds < 90) return `${tenths(seconds)} s`;
  return seconds < 5400 ? `${tenths(seconds / 60)} min` : `${tenths(seconds / 3600)} h`;
}

// What the reader has chosen; lives through updates.

const state = { q: "", model: "", defense: "", attack: "", eps: "", sort: "", view: "", threat: "", bands: true,
  picture: { model: "", defense: "", attack: "" }, limit: ROWS_AT_FIRST, pictures: PICTURES_AT_FIRST, toggled: new Map(), cursor: null, open: null, amount: 1, gain: "auto" };
const IN_ADDRESS = ["q", "model", "defense", "attack", "eps", "sort", "view", "threat"];

function readAddress() {
  const hash = location.hash.slice(1);
  if (!hash.includes("=")) return;
  const given = new URLSearchParams(hash);
  for (const name of IN_ADDRESS) state[name] = given.get(name) ?? "";
}
function writeAddress() {
  const kept = new URLSearchParams(IN_ADDRESS.filter((name) => state[name]).map((name) => [name, state[name]]));
  const hash = kept.toString();
  if (hash || location.hash.includes("=")) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

// The data.

let data = null;
let rows = [];

function load() {
  data = JSON.parse($("data").textContent);
  if (data.waiting) { rows = []; return; }
  const texts = Object.keys(data.names);
  rows = data.rows.map((packed, place) => {
    const row = { place, kind: KINDS[packed[0]], setting: packed[1] };
    texts.forEach((name, i) => { row[name] = data.names[name][packed[2 + i]]; });
    row.radius = data.radii[packed[1 + texts.length]];
    const [standing, n, wanted, low, high, success, controls, distance, passes, seconds, best] = packed.slice(2 + texts.length);
    Object.assign(row, { accuracy: standing / n, n, wanted, low, high, success, controlled: controls, distance, passes, seconds, best: best === 1 });
    row.controls = controls.length ? Math.max(...controls.map(([, value]) => value)) : null;
    row.who = data.who[row.setting];
    row.threat = [row.data, row.norm, row.goal, row.seed, row.precision].join(", ");
    row.text = texts.map((name) => row[name]).join(" ").toLowerCase();
    return row;
  });
}
