// Accuracy over the radius: lines, bands, legend, and what is read at a radius.

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
