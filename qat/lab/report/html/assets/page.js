"use strict";
// What all parts share: the data, safe elements, colours, and a state that outlives a reload of the page.
const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const root = document.documentElement;

function recall(storage, key, fallback) {
  try { return JSON.parse(storage().getItem(key)) ?? fallback; } catch { return fallback; }
}
function remember(storage, key, value) {
  try { storage().setItem(key, JSON.stringify(value)); } catch { /* nowhere to store: it lasts until the reload */ }
}
const key = `qat:${location.pathname}:${data.study}`, session = () => sessionStorage, device = () => localStorage;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
const option = (value, text = value) => element("option", { value, textContent: text });

// A select whose values depend on what is chosen elsewhere; it keeps its own as long as that is among them.
function refill(select, values) {
  select.replaceChildren(...values.map((value) => option(value)));
  select.value = values.includes(state[select.id]) ? state[select.id] : values[0] ?? "";
  return select.value;
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob(find(id).textContent), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const themeListeners = [], prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
function showTheme() {
  find("theme").textContent = isDark() ? "Light" : "Dark";
  find("theme").setAttribute("aria-label", `switch to ${isDark() ? "light" : "dark"} colours`);
  themeListeners.forEach((listener) => listener());
}
function setUpTheme() {
  const wanted = recall(device, "qat:theme", null);
  if (wanted === "dark" || wanted === "light") root.dataset.theme = wanted;
  find("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(device, "qat:theme", root.dataset.theme);
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);
  showTheme();
}

// Where the reader was: the place on the page and in the table, what was unfolded, how high the charts were.
const GROWING = ["layers", "histograms"];
function leave() {
  keep({
    scroll: scrollY, rows: find("trials-box").scrollTop,
    open: [...document.querySelectorAll("details[id]")].filter((one) => one.open).map((one) => one.id),
    heights: Object.fromEntries(GROWING.filter(find).map((id) => [id, find(id).offsetHeight])),
  });
}
function comeBack() {
  addEventListener("pagehide", leave);
  if (performance.getEntriesByType("navigation")[0]?.type !== "reload") return;
  history.scrollRestoration = "manual";
  document.querySelectorAll("details[id]").forEach((one) => { one.open = (state.open ?? []).includes(one.id); });
  for (const id of GROWING.filter(find)) find(id).style.minHeight = `${state.heights?.[id] ?? 0}px`;
  scrollTo(0, state.scroll ?? 0);
}
