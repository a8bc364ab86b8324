// What the reader chose is in the address, so that a link shows the same; where the reader was lasts until the tab goes.
const isText = (value) => typeof value === "string";
const isSwitch = (value) => typeof value === "boolean";
const VIEW = {
  filter: isText, asked: isText, "sorted-by": isText, pin: isText, stage: isText, metric: isText, operand: isText, site: isText,
  overlay: isText, "map-of": isText, left: isText, right: isText, flips: isText, even: isSwitch, every: isSwitch, log: isSwitch,
  sort: (value) => Array.isArray(value) && isText(value[0]) && (value[1] === 1 || value[1] === -1),
  picks: (value) => value !== null && typeof value === "object" && Object.values(value).every(isText),
  chosen: (value) => Array.isArray(value) && value.every(isText),
};
const AT = "at"; // the section that a link leads to

function readAddress() {
  const found = {};
  if (!location.hash.includes("=")) return found;
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!Object.hasOwn(VIEW, name)) continue;
    try {
      const value = VIEW[name] === isText ? text : JSON.parse(text);
      if (VIEW[name](value)) found[name] = value;
    } catch { /* a link that was cut off: the rest of it counts */ }
  }
  return found;
}
const givenAt = location.hash.includes("=") ? new URLSearchParams(location.hash.slice(1)).get(AT) : null;
const state = { ...recall(session, key, {}), ...readAddress() };
let written = location.hash, at = givenAt;

function writeAddress() {
  const found = new URLSearchParams(at === null ? {} : { [AT]: at });
  for (const name of Object.keys(VIEW)) {
    const value = state[name];
    if (value === undefined || value === null || value === "" || value === false) continue;
    found.set(name, isText(value) ? value : JSON.stringify(value));
  }
  written = found.size ? `#${found}` : "";
  history.replaceState(null, "", written || location.pathname + location.search);
}

function keep(changes) {
  Object.assign(state, changes);
  remember(session, key, Object.fromEntries(Object.entries(state).filter(([name]) => !Object.hasOwn(VIEW, name))));
  if (Object.keys(changes).some((name) => Object.hasOwn(VIEW, name))) writeAddress();
}

function setUpAddress() {
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      at = link.hash.slice(1);
      writeAddress();
      find(at).scrollIntoView();
    });
  }
  addEventListener("hashchange", () => { // another link to this page was opened in it
    if (location.hash !== written && location.hash.includes("=")) location.reload();
  });
  find("copy-link").addEventListener("click", () => copyText(location.href, find("copy-link")));
}
function goToSection() {
  const section = givenAt && [...document.querySelectorAll("main > section")].find((one) => one.id === givenAt);
  if (section && performance.getEntriesByType("navigation")[0]?.type !== "reload") section.scrollIntoView();
}
