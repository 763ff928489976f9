"use strict";
(() => {
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

  // ------------------------------------------------------------------ what the reader has chosen; lives through updates

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

  // ------------------------------------------------------------------ the data

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

  // ------------------------------------------------------------------ the table

  function chosenRows() {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((row) => ["model", "defense", "attack", "eps"].every((name) => !state[name] || row[name] === state[name])
      && words.every((word) => row.text.includes(word)));
    if (!state.sort) return found;
    const name = state.sort.replace(/^-/, "");
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const key = name === "eps" ? (row) => row.radius : (row) => row[name];
    return found.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      return sign * (NUMBERS.has(name) ? x - y : natural.compare(x, y)) || a.place - b.place;
    });
  }

  function cell(row, name, above) {
    const td = (text) => make("td", { class: "num" }, text);
    const again = above && above[name] === row[name] ? "again" : null; // a name that stands above already is dimmed
    switch (name) {
      case "model": return make("th", { scope: "row", class: again }, row.model);
      case "eps": return td(row.eps || "–");
      case "success": return td(row.success === null ? "–" : percent(row.success));
      case "controls": return make("td", { class: "controlled" }, ...(row.controlled.length
        ? row.controlled.flatMap(([title, value], place) => [...(place ? [", "] : []), make("span", {}, `${title} ${percent(value)}`)]) : ["–"]));
      case "distance": return td(number(row.distance));
      case "passes": return td(count(row.passes));
      case "seconds": return td(duration(row.seconds));
      case "n": {
        const found = td(String(row.n));
        if (row.n < row.wanted) found.append(make("span", { class: "part" }, ` of ${row.wanted}`));
        return found;
      }
      case "accuracy": {
        const value = percent(row.accuracy);
        return make("td", { class: "accuracy" }, make("span", { class: "value" }, row.best ? make("b", {}, value) : value), " ",
          make("span", { class: "iv" }, interval(row)),
          draw("svg", { class: "bar", viewBox: "0 0 100 10", width: 100, height: 10, "aria-hidden": "true" },
            draw("line", { x1: 0, x2: 100, y1: 5, y2: 5 }),
            draw("rect", { x: percent(row.low), y: 3, width: percent(row.high - row.low), height: 4 }),
            draw("circle", { cx: value, cy: 5, r: 2.6 })));
      }
      default: return make("td", { class: again }, row[name]);
    }
  }

  function showRows() {
    const found = chosenRows();
    const shown = found.slice(0, state.limit);
    $("rows").replaceChildren(...shown.map((row, place) => make("tr", { class: row.kind }, ...data.columns.map(([name]) => cell(row, name, shown[place - 1])))));
    const n = (value) => value.toLocaleString("en");
    $("shown").textContent = (shown.length < found.length ? `${n(shown.length)} of ${n(found.length)} lines` : `${n(found.length)} lines`)
      + (found.length < rows.length ? ` (${n(rows.length)} in all)` : "");
    $("more").hidden = shown.length === found.length;
    $("more").textContent = `Show ${n(Math.min(ROWS_AT_A_TIME, found.length - shown.length))} more`;
    for (const th of all(".results thead th")) {
      const by = th.dataset.name;
      if (state.sort.replace(/^-/, "") === by) th.setAttribute("aria-sort", state.sort.startsWith("-") ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
  }

  function startTable() {
    if (data.columns.length <= 9) $("scroll").classList.add("free");
    for (const th of all(".results thead th")) {
      const name = th.dataset.name;
      const button = make("button", { type: "button", id: `sort-${name}` }, th.textContent);
      button.addEventListener("click", () => {
        const cycle = NUMBERS.has(name) && name !== "eps" ? [`-${name}`, name, ""] : [name, `-${name}`, ""];
        state.sort = cycle[(cycle.indexOf(state.sort) + 1) % 3] ?? cycle[0];
        changed();
      });
      th.replaceChildren(button);
    }
    const inputs = all("#filters [data-name]");
    const changed = () => { state.limit = ROWS_AT_FIRST; writeAddress(); showRows(); };
    for (const input of inputs) {
      input.value = state[input.dataset.name];
      if (input.value !== state[input.dataset.name]) { state[input.dataset.name] = ""; input.value = ""; }
      input.addEventListener(input.type === "search" ? "input" : "change", () => { state[input.dataset.name] = input.value; changed(); });
    }
    $("filter-clear").addEventListener("click", () => {
      for (const input of inputs) { input.value = ""; state[input.dataset.name] = ""; }
      changed();
    });
    $("more").addEventListener("click", () => { state.limit += ROWS_AT_A_TIME; showRows(); });
    // The page arrives with its rows; they are drawn again only where the script would order them otherwise or hold more.
    showRows();
  }

  // ------------------------------------------------------------------ the curves

  let plot = null; // what is drawn: curves, radii and where they lie
  let view = ""; // the reader's choice where there is one, else what suits the results
  let threat = "";

  function curvesOf() {
    const inThreat = rows.filter((row) => row.kind !== "clean" && row.threat === threat);
    const clean = new Map(rows.filter((row) => row.kind === "clean").map((row) => [row.setting, row]));
    const [what, which] = [view[0], view.slice(2)];
    const groups = new Map();
    for (const row of inThreat) {
      if (what === "a" ? row.attack !== which : row.who !== which) continue;
      const key = what === "a" ? row.who : row.attack;
      if (!groups.has(key)) groups.set(key, { key, name: key, points: new Map() });
      const points = groups.get(key).points;
      if (!points.has(0) && clean.has(row.setting)) points.set(0, clean.get(row.setting));
      if (row.radius !== null) points.set(row.radius, row);
    }
    const curves = [...groups.values()].map((curve) => ({ ...curve, points: [...curve.points].sort((a, b) => a[0] - b[0]) }));
    for (const curve of curves) {
      const under = curve.points.filter(([radius]) => radius > 0);
      curve.mean = under.reduce((sum, [, row]) => sum + row.accuracy, 0) / Math.max(1, under.length);
    }
    if (what === "a") curves.sort((a, b) => b.mean - a.mean);
    curves.forEach((curve, place) => { curve.place = place; });
    return curves;
  }
  const isOn = (curve) => state.toggled.get(curve.key) ?? curve.place < LINES_AT_FIRST;
  const shape = (curve) => ({ color: curve.place % 8, mark: MARKS[curve.place % MARKS.length], dash: DASHES[Math.floor(curve.place / 8) % DASHES.length] || null });

  function startCurves() {
    const attacked = rows.filter((row) => row.kind !== "clean");
    const threats = [...new Set(attacked.map((row) => row.threat))];
    if (!threats.length) { $("curves").hidden = true; return; }
    const refill = (select, options) => select.replaceChildren(...options);
    const option = (value, text) => make("option", { value }, text);
    refill($("curve-threat"), threats.map((threat) => option(threat, threat)));
    $("curve-threat-label").hidden = threats.length < 2;
    threat = threats.includes(state.threat) ? state.threat : threats[0];
    const views = () => {
      const here = attacked.filter((row) => row.threat === threat);
      const attacks = [...new Set(here.map((row) => row.attack))].sort((a, b) => (b === "worst case") - (a === "worst case"));
      const settings = [...new Set(here.map((row) => row.who))];
      const groups = [["All models under", "a", attacks], ["All attacks on", "s", settings]];
      refill($("curve-view"), groups.map(([label, kind, names]) => make("optgroup", { label }, ...names.map((name) => option(`${kind}:${name}`, name)))));
      view = settings.length === 1 ? `s:${settings[0]}` : `a:${attacks[0]}`;
      if (groups.some(([, kind, names]) => names.some((name) => state.view === `${kind}:${name}`))) view = state.view;
      $("curve-view").value = view;
      $("curve-threat").value = threat;
    };
    views();
    $("curve-view").addEventListener("change", () => { state.view = view = $("curve-view").value; state.toggled.clear(); writeAddress(); showCurves(); });
    $("curve-threat").addEventListener("change", () => { state.threat = threat = $("curve-threat").value; state.toggled.clear(); views(); writeAddress(); showCurves(); });
    $("curve-bands").checked = state.bands;
    $("curve-bands").addEventListener("change", () => { state.bands = $("curve-bands").checked; showPlot(); });
    const area = $("plot");
    area.addEventListener("pointermove", (event) => pointAt(event));
    area.addEventListener("pointerdown", (event) => pointAt(event));
    area.addEventListener("pointerleave", () => area.querySelector(".tip")?.remove());
    area.addEventListener("keydown", (event) => {
      const last = plot.radii.length - 1;
      const to = { ArrowLeft: state.cursor - 1, ArrowDown: state.cursor - 1, ArrowRight: state.cursor + 1, ArrowUp: state.cursor + 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      moveCursor(Math.min(last, Math.max(0, to)));
    });
    new ResizeObserver(() => { if (area.isConnected && plot && Math.abs(area.clientWidth - plot.width) > 1) showPlot(); }).observe(area);
    showCurves();
  }

  function showCurves() {
    const curves = curvesOf();
    const radii = new Map();
    for (const curve of curves) for (const [radius, row] of curve.points) radii.set(radius, radius === 0 ? "0" : row.eps);
    plot = { curves, radii: [...radii].sort((a, b) => a[0] - b[0]), width: 0 };
    if (state.cursor === null || state.cursor >= plot.radii.length) state.cursor = plot.radii.length - 1;
    $("legend").replaceChildren(...curves.map((curve, place) => {
      const { color, mark, dash } = shape(curve);
      const button = make("button", { type: "button", id: `line-${place}`, "aria-pressed": String(isOn(curve)) },
        draw("svg", { viewBox: "0 0 32 16", "aria-hidden": "true" },
          draw("line", { x1: 2, x2: 30, y1: 8, y2: 8, class: `s${color}`, "stroke-width": 2, "stroke-dasharray": dash }),
          draw("path", { d: mark, transform: "translate(16,8)", class: `f${color}` })),
        make("span", { class: "name" }, curve.name), make("span", { class: "value" }));
      button.addEventListener("click", () => {
        state.toggled.set(curve.key, !isOn(curve));
        button.setAttribute("aria-pressed", String(isOn(curve)));
        showPlot();
      });
      const emphasise = (on) => all("[data-curve]", $("plot")).forEach((part) => part.classList.toggle("dim", on && part.dataset.curve !== curve.key));
      for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
        button.addEventListener(event, () => emphasise(on && isOn(curve)));
      return make("li", {}, button);
    }));
    showPlot();
  }

  function showPlot() {
    const area = $("plot");
    const width = Math.max(280, area.clientWidth);
    const height = area.clientWidth < 500 ? 272 : 352;
    const [left, right, top, bottom] = [38, 16, 24, 42];
    const largest = plot.radii.at(-1)?.[0] || 1;
    const x = (radius) => left + (width - left - right) * radius / largest;
    const y = (value) => top + (height - top - bottom) * (1 - value);
    Object.assign(plot, { width: area.clientWidth, x, y, top, bottom: height - bottom });
    const parts = [];
    for (const tick of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
      parts.push(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
        draw("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, `${Math.round(100 * tick)}`));
    }
    parts.push(draw("text", { x: 0, y: 12 }, "accuracy, %"), draw("text", { x: width - right, y: height - 4, "text-anchor": "end" }, radiusTitle(rows.find((row) => row.threat === threat && row.kind !== "clean").norm)));
    let free = Infinity;
    for (const [radius, text] of [...plot.radii].reverse()) { // the largest radius keeps its label
      const half = 3.6 * text.length;
      if (x(radius) + half + 6 > free) continue;
      free = x(radius) - half;
      parts.push(draw("text", { x: x(radius), y: height - bottom + 18, "text-anchor": radius === largest ? "end" : "middle", dx: radius === largest ? 8 : 0 }, text));
    }
    const shown = plot.curves.filter(isOn);
    if (state.bands) for (const curve of shown) {
      const [down, up] = [curve.points.map(([r, row]) => `${x(r)},${y(row.low)}`), curve.points.map(([r, row]) => `${x(r)},${y(row.high)}`)];
      parts.push(draw("path", { class: `band f${shape(curve).color}`, "data-curve": curve.key, d: `M${up.join("L")}L${down.reverse().join("L")}Z` }));
    }
    for (const curve of [...shown].reverse()) {
      const { color, mark, dash } = shape(curve);
      parts.push(draw("path", { class: `curve s${color}`, "data-curve": curve.key, "stroke-dasharray": dash, d: `M${curve.points.map(([r, row]) => `${x(r)},${y(row.accuracy)}`).join("L")}` }));
      for (const [r, row] of curve.points) parts.push(draw("path", { class: `f${color}`, "data-curve": curve.key, d: mark, transform: `translate(${x(r)},${y(row.accuracy)})` }));
    }
    parts.push(draw("line", { class: "cursor", y1: top, y2: height - bottom }));
    area.replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", preserveAspectRatio: "xMinYMin meet" }, ...parts));
    area.setAttribute("aria-valuemax", String(Math.max(0, plot.radii.length - 1)));
    moveCursor(state.cursor);
  }

  const radiusTitle = (norm) => `radius (${{ l0: "l0, pixels", area: "area, share of the picture" }[norm] ?? norm})`;

  function pointAt(event) {
    const at = event.clientX - $("plot").getBoundingClientRect().left;
    const away = plot.radii.map(([radius]) => Math.abs(plot.x(radius) - at));
    const to = away.indexOf(Math.min(...away));
    moveCursor(to);
    showTip(to, event.clientY - $("plot").getBoundingClientRect().top);
  }

  // The lines that run near the pointer, with their values.
  function showTip(to, height) {
    const area = $("plot");
    area.querySelector(".tip")?.remove();
    const [radius, text] = plot.radii[to];
    const at = plot.curves.filter(isOn).map((curve) => [curve, curve.points.find(([r]) => r === radius)?.[1]]).filter(([, row]) => row);
    const away = ([, row]) => Math.abs(plot.y(row.accuracy) - height);
    const near = at.filter((found) => away(found) <= NEAR).sort((a, b) => away(a) - away(b)).slice(0, 4);
    if (!near.length) return;
    const tip = make("div", { class: "tip", "aria-hidden": "true" }, make("span", { class: "iv" }, radius === 0 ? "without attack" : `at ${text}`),
      ...near.map(([curve, row]) => make("span", {}, `${curve.name} `, make("b", {}, `${percent(row.accuracy)} %`), ` [${interval(row)}], n = ${row.n}`)));
    area.append(tip);
    const x = plot.x(radius);
    tip.style.left = `${Math.max(0, x + 12 + tip.offsetWidth > area.clientWidth ? x - 12 - tip.offsetWidth : x + 12)}px`;
    tip.style.top = `${Math.max(0, Math.min(height - tip.offsetHeight / 2, plot.bottom - tip.offsetHeight))}px`;
  }

  function moveCursor(to) {
    state.cursor = to;
    const [radius, text] = plot.radii[to];
    const line = $("plot").querySelector(".cursor");
    line.setAttribute("x1", plot.x(radius));
    line.setAttribute("x2", plot.x(radius));
    const said = [];
    plot.curves.forEach((curve, place) => {
      const row = curve.points.find(([at]) => at === radius)?.[1];
      const value = $(`line-${place}`).querySelector(".value");
      value.replaceChildren(...(row ? [`${percent(row.accuracy)} %`, make("span", { class: "iv" }, interval(row))] : ["–"]));
      if (row && isOn(curve)) said.push(`${curve.name} ${percent(row.accuracy)} %, ${interval(row)}`);
    });
    const where = radius === 0 ? "without attack" : `at ${text}`;
    const off = plot.curves.filter((curve) => !isOn(curve)).length;
    $("legend-head").textContent = `Accuracy ${where}${off ? `; ${off} of ${plot.curves.length} lines off` : ""}`;
    $("plot").setAttribute("aria-valuenow", String(to));
    $("plot").setAttribute("aria-valuetext", `${where}: ${said.slice(0, LINES_AT_FIRST).join("; ")}`);
  }

  // ------------------------------------------------------------------ the examples

  const isChosen = (example) => Object.entries(state.picture).every(([name, value]) => !value || example[name] === value);
  const chosenKeys = () => all("#gallery button").map((button) => button.dataset.example).filter((key) => isChosen(exampleOf(key)));
  const exampleOf = (key) => {
    const [clean, model, defense, attack, norm, eps, index, label, prediction, distance, shrunk] = data.examples[key];
    return { key, clean: data.clean[clean], model, defense, attack, norm, eps, index, label, prediction, distance, shrunk };
  };

  function startGallery() {
    if (!$("gallery")) { if ($("dialog").open) $("dialog").close(); return; }
    const inputs = all("#picture-filters select");
    for (const input of inputs) {
      const name = input.dataset.name;
      input.value = state.picture[name];
      if (input.value !== state.picture[name]) { state.picture[name] = ""; input.value = ""; }
      input.addEventListener("change", () => { state.picture[name] = input.value; state.pictures = PICTURES_AT_FIRST; showGallery(); });
    }
    showGallery();
    $("more-pictures").addEventListener("click", () => { state.pictures = Infinity; showGallery(); });
    $("gallery").addEventListener("click", (event) => {
      const button = event.target.closest("[data-example]");
      if (button) openExample(button.dataset.example);
    });
    if ($("dialog").open) {
      if (data.examples[state.open]) showPosition();
      else $("dialog").close();
    }
  }

  function showGallery() {
    const keys = chosenKeys();
    const shown = new Set(keys.slice(0, state.pictures));
    for (const li of $("gallery").children) li.hidden = !shown.has(li.firstElementChild.dataset.example);
    $("pictures-shown").textContent = shown.size < keys.length ? `${shown.size} of ${keys.length} shown` : `${shown.size} shown`;
    $("more-pictures").hidden = shown.size === keys.length;
    $("more-pictures").textContent = `Show ${keys.length - shown.size} more`;
  }

  let levels = null; // of the open example: both pictures' pixels

  async function pixels(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  async function openExample(key) {
    const example = exampleOf(key);
    state.open = key;
    const dialog = $("dialog");
    $("dialog-title").textContent = `${example.label} → ${example.prediction}`;
    const facts = [["label", example.label], ["prediction", example.prediction], ["attack", example.attack], ["radius", `${example.norm} ${example.eps}`],
      ["distance", number(example.distance)], ["model", example.model], ["defense", example.defense], ["place in the data", String(example.index)],
      ...(example.shrunk > 1 ? [["shown at", `1/${example.shrunk} of its size, as means: changes look smaller than they are`]] : [])];
    $("dialog-facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    showPosition();
    if (!dialog.open) { dialog.showModal(); $("dialog-title").focus(); }
    const x_adv = $(`ex-${key}`).querySelector("img").src;
    const found = await Promise.all([pixels(example.clean), pixels(x_adv)]);
    if (state.open !== key) return; // the reader has moved on
    levels = found;
    showPicture();
  }

  function showPosition() {
    const keys = chosenKeys();
    const at = keys.indexOf(state.open);
    if (at >= state.pictures) { state.pictures = at + 1; showGallery(); } // so that the reader comes back to it
    $("position").textContent = at < 0 ? `not among the ${keys.length} shown` : `${at + 1} of ${keys.length}`;
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at === keys.length - 1;
  }

  function showPicture() {
    const [clean, adversarial] = levels;
    const { width, height } = clean;
    let most = 0;
    for (let i = 0; i < clean.data.length; i++) most = Math.max(most, Math.abs(adversarial.data[i] - clean.data[i]));
    const gain = state.gain === "auto" ? 127 / Math.max(1, most) : Number(state.gain);
    const blend = new ImageData(width, height);
    const difference = new ImageData(width, height);
    for (let i = 0; i < clean.data.length; i++) {
      const change = adversarial.data[i] - clean.data[i];
      const isAlpha = i % 4 === 3;
      blend.data[i] = isAlpha ? 255 : clean.data[i] + state.amount * change;
      difference.data[i] = isAlpha ? 255 : 128 + gain * state.amount * change;
    }
    const example = exampleOf(state.open);
    const stage = state.amount === 0 ? `Clean: ${example.label}` : state.amount === 1 ? `Adversarial: taken for ${example.prediction}` : `${percent(state.amount)} % of the perturbation`;
    for (const [id, image] of [["blend", blend], ["difference", difference]]) {
      const canvas = $(id);
      Object.assign(canvas, { width, height });
      canvas.classList.toggle("smooth", width > 160);
      canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
    }
    $("blend").setAttribute("aria-label", stage);
    $("difference").setAttribute("aria-label", `The difference, ${gain.toFixed(1)} times as strong; at most ${most} of 255`);
    $("blend-caption").textContent = stage;
    $("gain").options[0].textContent = `full scale (× ${Number((127 / Math.max(1, most)).toPrecision(3))})`;
    $("amount-shown").textContent = state.amount.toFixed(2);
  }

  function step(by) {
    const keys = chosenKeys();
    const to = keys[keys.indexOf(state.open) + by];
    if (to && keys.includes(state.open)) openExample(to);
  }

  function startDialog() {
    const dialog = $("dialog");
    $("amount").addEventListener("input", () => { state.amount = Number($("amount").value); if (levels) showPicture(); });
    $("gain").addEventListener("change", () => { state.gain = $("gain").value; if (levels) showPicture(); });
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    $("dialog-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { $(`ex-${state.open}`)?.focus(); state.open = null; levels = null; });
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { event.preventDefault(); step(by); }
    });
  }

  // ------------------------------------------------------------------ the rest of the page

  function startCopy() {
    for (const button of all("[data-copy]")) {
      if (!navigator.clipboard) { button.hidden = true; continue; }
      const rest = button.firstChild;
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText($(button.dataset.copy).textContent);
          rest.textContent = "Copied";
        } catch {
          rest.textContent = "Not allowed";
        }
        setTimeout(() => { rest.textContent = "Copy"; }, 1500);
      });
    }
  }

  function startTheme() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const label = () => { $("theme").textContent = isDark() ? "Light" : "Dark"; $("theme").setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`); };
    try {
      const kept = localStorage.getItem("advkit-theme");
      if (kept === "dark" || kept === "light") root.dataset.theme = kept;
    } catch { /* storage may be closed to files */ }
    label();
    system.addEventListener("change", label);
    $("theme").addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("advkit-theme", root.dataset.theme); } catch { /* as above */ }
      label();
    });
  }

  function start() {
    load();
    if (data.waiting) return;
    startTable();
    startCurves();
    startGallery();
    startCopy();
  }

  // ------------------------------------------------------------------ live: the same page again, with the reader where he was

  let composing = false;

  const isBusy = () => composing || !getSelection().isCollapsed && $("main").contains(getSelection().anchorNode)
    || document.activeElement?.matches("select") && openSelect(document.activeElement);
  function openSelect(select) {
    try { return select.matches(":open"); } catch { return false; }
  }

  function replace(page) {
    const fresh = new DOMParser().parseFromString(page, "text/html");
    if (!fresh.getElementById("data")) throw new Error("not a report");
    const main = $("main");
    const anchor = all("section[id]", main).find((section) => section.getBoundingClientRect().bottom > 60);
    const offset = anchor?.getBoundingClientRect().top;
    const active = document.activeElement;
    const caret = active?.type === "search" ? [active.selectionStart, active.selectionEnd] : null;
    const inMain = main.contains(active) ? active.id : "";
    const opened = all("details[open]", main).map((details) => details.id);
    const across = all(".scroll", main).map((area) => area.scrollLeft);
    main.replaceChildren(...fresh.getElementById("main").childNodes);
    $("sections").replaceChildren(...fresh.getElementById("sections").childNodes);
    $("data").textContent = fresh.getElementById("data").textContent;
    document.title = fresh.title;
    start();
    for (const id of opened) $(id)?.setAttribute("open", "");
    all(".scroll", main).forEach((area, place) => { area.scrollLeft = across[place] ?? 0; });
    const again = inMain && $(inMain);
    if (again) {
      again.focus({ preventScroll: true });
      if (caret) again.setSelectionRange(...caret);
    }
    const section = anchor && $(anchor.id);
    if (section) scrollBy({ top: section.getBoundingClientRect().top - offset, behavior: "instant" });
  }

  function startLive() {
    if (!data.live) return;
    addEventListener("compositionstart", () => { composing = true; });
    addEventListener("compositionend", () => { composing = false; });
    const status = $("live");
    const say = (text, lost) => { if (status.textContent !== text) status.textContent = text; status.classList.toggle("lost", lost); };
    const look = async () => {
      let pause = POLL_MS;
      try {
        const { version } = await (await fetch("version", { cache: "no-store" })).json();
        if (version !== data.version && !isBusy()) {
          const before = performance.now();
          const answer = await fetch("./", { cache: "no-store" });
          if (!answer.ok) throw new Error(String(answer.status));
          const page = await answer.text();
          // A large store takes long to read: the reader's updates must not take the processor from the sweep.
          pause = Math.max(pause, 8 * (performance.now() - before));
          replace(page);
          say(`live, new results at ${new Date().toLocaleTimeString("en-GB")}`, false);
        } else if (status.classList.contains("lost")) say("live", false);
      } catch {
        say("server does not answer; this is what it said last", true);
      }
      setTimeout(look, pause);
    };
    setTimeout(look, POLL_MS);
  }

  document.documentElement.classList.add("js");
  readAddress();
  startTheme();
  startDialog();
  start();
  startLive();
  addEventListener("beforeprint", () => {
    for (const details of all("details")) details.open = true;
    if (data.waiting) return;
    state.limit = Math.max(state.limit, ROWS_ON_PAPER);
    showRows();
  });
})();
