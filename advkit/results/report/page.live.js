// The rest of the page, its start, and its renewal while it is served.

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

// Live: the same page again, with the reader where he was.

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
