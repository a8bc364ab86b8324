// What is not the same in two arms or trials: settings and machine, differences only; and the axes of a study.
let comparedFacts = null;
const loadedFacts = () => (comparedFacts ??= unpack("facts"));
const SEEDS = " (all seeds)";

// The trials that a name means: one trial, or all of an arm.
function sideTrials(name) {
  const one = names.indexOf(name);
  if (one >= 0) return [one];
  const arm = data.groups.findIndex((group) => `${group.label}${SEEDS}` === name || group.label === name);
  return arm < 0 ? [] : members[arm];
}

function sideValue(fact, trials, known) {
  const found = unique(trials.filter((i) => known[i]).map((i) => (fact.at[i] === null ? "not there" : fact.values[fact.at[i]])));
  return found.sort(collator.compare).join(" | ");
}

async function drawDifferences() {
  const { facts, known } = await loadedFacts(), [left, right] = ["left", "right"].map((id) => sideTrials(find(id).value));
  const box = find("differences"), note = find("differences-note");
  if (![left, right].every((side) => side.some((i) => known[i]))) {
    box.replaceChildren();
    note.textContent = "Name two arms, or two trials that have run.";
    return;
  }
  const lines = facts.map((fact) => [fact.name, sideValue(fact, left, known), sideValue(fact, right, known)]).filter(([, a, b]) => a !== b);
  note.textContent = lines.length ? `${lines.length} settings and facts differ; what is not listed is the same.` : "Nothing differs: neither settings nor machine.";
  const heads = ["setting or fact", find("left").value, find("right").value].map((text) => element("th", { scope: "col", className: "wrap", textContent: text }));
  const body = lines.map(([name, a, b]) => element("tr", {}, element("th", { scope: "row", textContent: name }), ...[a, b].map((text) => element("td", { className: "wrap", textContent: text }))));
  box.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...body)));
}

// Lines in eight colours by their result; what plotly has for this needs WebGL and scripts made of text, which the page forbids.
const SHADES = 8, SPREAD = 0.05;
function drawAxes() {
  const { axes, arms } = data.axes, scale = metricScale(), heights = arms.map((arm) => scale.to(arm.value)), ends = [Math.min(...heights), Math.max(...heights)];
  const sign = data.better === "lower" ? -1 : 1, order = [...arms].sort((a, b) => sign * (a.value - b.value));
  const rank = new Map(order.map((arm, k) => [arm, k])), last = axes.length;
  const heightOf = (place) => (ends[1] > ends[0] ? (place - ends[0]) / (ends[1] - ends[0]) : 0.5);
  const beside = (arm, place) => (place === null ? null : place + SPREAD * (rank.get(arm) / order.length - 0.5)); // or lines cover each other
  const traces = Array.from({ length: SHADES }, (_, shade) => {
    const own = order.filter((arm) => Math.floor(rank.get(arm) * SHADES / order.length) === shade), best = shade / (SHADES - 1);
    return {
      type: "scatter", mode: "lines", showlegend: false, hoverinfo: "text", line: { width: 1.4, color: mixed(best) }, opacity: 0.45 + 0.5 * best,
      x: own.flatMap(() => [...axes.keys(), last, null]), y: own.flatMap((arm) => [...arm.places.map((place) => beside(arm, place)), heightOf(scale.to(arm.value)), null]),
      hovertext: own.flatMap((arm) => Array(last + 2).fill(`<b>${plain(arm.label)}</b><br>${plain(data.metric)}: ${formatted(arm.value, data.decimals)}`)),
    };
  }).filter((trace) => trace.x.length);
  const tick = (x, y, text) => ({ x, y, text: plain(text), showarrow: false, xanchor: x === last ? "right" : "left", xshift: x === last ? -5 : 5, font: { size: 11 }, bgcolor: colour("paper"), opacity: 0.9 });
  const ticks = axes.flatMap((one, x) => shownTicks(one).map(([value, place]) => tick(x, place, shortLabel(one.name, value))));
  const marks = scale.isBent ? scale.axis.tickvals.map((at, k) => [at, scale.axis.ticktext[k]]) : [0, 0.5, 1].map((part) => ends[0] + part * (ends[1] - ends[0])).map((at) => [at, formatted(at, data.decimals)]);
  const numbers = marks.map(([at, text]) => [heightOf(at), text]).filter(([place]) => place > -0.05 && place < 1.05).map(([place, text]) => tick(last, place, text));
  const titles = [...axes.map((one) => `${plain(one.name)}<br>${one.importance === null ? "" : `${Math.round(100 * one.importance)} %`}`), plain(data.metric)];
  return draw("axes", traces, {
    annotations: [...ticks, ...numbers], margin: { l: 16, r: 16, t: 64, b: 16 },
    xaxis: axis("", { side: "top", tickvals: [...axes.keys(), last], ticktext: titles, range: [-0.15, last + 0.15], zeroline: false, gridcolor: colour("faint") }),
    yaxis: axis("", { range: [-0.06, 1.06], showticklabels: false, showgrid: false, zeroline: false }),
  });
}
function shownTicks(one) {
  const all = one.values.map((value, k) => [value, one.places[k]]);
  return all.filter((_, k) => all.length <= 12 || k % Math.ceil(all.length / 12) === 0);
}
const shortLabel = (name, value) => (value.startsWith(`${name} `) ? value.slice(name.length + 1) : value).slice(0, 28);
function mixed(share) { // from the colour of what is bad over grey to that of what is good
  const stops = ["bad", "cut", "good"].map((name) => colour(name).match(/[\d.]+/g).map(Number)), half = share < 0.5 ? 0 : 1;
  return `rgb(${stops[half].slice(0, 3).map((part, k) => Math.round(part + (2 * share - half) * (stops[half + 1][k] - part))).join(",")})`;
}

function setUpDifferences() {
  const arms = data.groups.filter((group) => group.arm).map((group) => `${group.label}${SEEDS}`), start = [arms[0], arms.at(-1)];
  ["left", "right"].forEach((id, k) => {
    find(id).value = state[id] ?? start[k] ?? "";
    find(id).addEventListener("focus", () => offerNames());
    find(id).addEventListener("change", () => { keep({ [id]: find(id).value }); redraw("differences"); });
  });
}
