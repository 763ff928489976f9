// The big table: rows, filters, sorting.

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
  // What the address says of a column of one value would narrow the table by what nobody can change.
  for (const name of ["model", "defense", "attack", "eps"]) if (!$(`filter-${name}`)) state[name] = "";
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
