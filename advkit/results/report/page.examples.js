// The pictures: the gallery, and one of them opened with its slider.

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
