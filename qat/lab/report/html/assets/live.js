// Served by `qat dashboard`: shows what runs, and loads the page again when the study has moved on and the reader's
// hands are off it.
const EVERY = 3000, REST = 1500; // milliseconds
let touched = 0, asking = false;

function showRunning(works) {
  find("running").replaceChildren(...works.map(({ label, where, what, step, steps }) => {
    const said = `${label}: ${what || "starting"}${steps ? `, step ${step.toLocaleString("en")} of ${steps.toLocaleString("en")}` : ""}`;
    const bar = element("progress", steps ? { value: step, max: steps } : {});
    bar.setAttribute("aria-label", label);
    return element("li", { title: where }, bar, said);
  }));
}

async function ask() {
  if (document.hidden || asking || !find("live").checked) return;
  asking = true;
  try {
    const { stamp, running } = await (await fetch("state", { cache: "no-store" })).json();
    find("live-note").textContent = "live";
    showRunning(running);
    if (stamp !== root.dataset.stamp && Date.now() - touched > REST) location.reload();
  } catch {
    find("live-note").textContent = "no answer";
  }
  asking = false;
}

function setUpLive() {
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }
  find("live").checked = state.live ?? true;
  find("live").addEventListener("change", () => { keep({ live: find("live").checked }); ask(); });
  setInterval(ask, EVERY);
  ask();
}
