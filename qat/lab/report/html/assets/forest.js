// Forest plots: each comparison's difference with its interval, one chart for each unit.
const UNITS = [...new Set(data.forest.map((bar) => bar.unit))];
const KIND_COLOURS = { better: "good", worse: "bad", equivalent: "accent", identical: "accent", undecided: "faint" };
const ORDERS = {
  difference: (a, b) => b.mean - a.mean,
  "width of the interval": (a, b) => width(a) - width(b),
  verdict: (a, b) => kindPlace(a) - kindPlace(b) || b.mean - a.mean,
  "order of the study": () => 0,
};
const kindPlace = (bar) => Object.keys(KIND_COLOURS).indexOf(bar.kind);
const width = (bar) => (bar.interval ? bar.interval[1] - bar.interval[0] : Infinity);
const ALL_ASKED = "all", MOST_BARS = 60; // more take the browser seconds

function formatted(value, decimals, sign = false) {
  const text = decimals === null ? String(Number(value.toPrecision(4))) : value.toFixed(decimals);
  return `${sign && value > 0 ? "+" : ""}${text}`.replace("-", "−");
}

function barText(bar) {
  const number = (value) => formatted(value, bar.decimals, true);
  const lines = [`<b>${plain(bar.first)} against ${plain(bar.second)}</b>: ${bar.kind}`, `${number(bar.mean)} ${plain(bar.unit)}, n = ${bar.n} ${bar.over}`];
  if (bar.interval) lines.push(`95 % interval ${number(bar.interval[0])} to ${number(bar.interval[1])}`);
  if (bar.seeds.length) lines.push(`seed by seed ${bar.seeds.map(number).join(", ")}`);
  if (bar.both) lines.push(`with other test examples too ${number(bar.both[0])} to ${number(bar.both[1])}`);
  if (bar.p !== null) lines.push(bar.p < 0.001 ? "p < 0.001, corrected" : `p = ${bar.p.toFixed(3)}, corrected`);
  if (bar.alone) lines.push(`of these models alone: ${bar.alone}`);
  return lines.join("<br>");
}

function errorBar(own, ends, to, look) {
  const reach = (bar, k) => (bar[ends] ? Math.abs(to(bar[ends][k]) - to(bar.mean)) : 0);
  return { type: "data", symmetric: false, array: own.map((bar) => reach(bar, 1)), arrayminus: own.map((bar) => reach(bar, 0)), ...look };
}

function forestTraces(shown, to) {
  return Object.entries(KIND_COLOURS).flatMap(([kind, name]) => {
    const own = shown.filter(([bar]) => bar.kind === kind), found = own.map(([bar]) => bar);
    if (!own.length) return [];
    const shared = { type: "scatter", mode: "markers", legendgroup: kind, x: found.map((bar) => to(bar.mean)), y: own.map(([, y]) => y), cliponaxis: false };
    const color = colour(name), symbol = found.map((bar) => (bar.over === "items" ? "circle-open" : "circle"));
    const seeds = own.flatMap(([bar, y]) => bar.seeds.map((value) => [to(value), y]));
    return [
      { ...shared, showlegend: false, hoverinfo: "skip", marker: { opacity: 0 }, error_x: errorBar(found, "both", to, { color, thickness: 1, width: 3 }) },
      { ...shared, name: kind, hovertext: found.map(barText), hoverinfo: "text", marker: { color, size: 10, symbol }, error_x: errorBar(found, "interval", to, { color, thickness: 3.5, width: 0 }) },
      { ...shared, x: seeds.map(([x]) => x), y: seeds.map(([, y]) => y), showlegend: false, hoverinfo: "skip", marker: { color, symbol: "line-ns-open", size: 9, line: { width: 1.5 } } },
    ];
  });
}

function marginBands(shown, to) { // one for all rows in a row that share a margin: many shapes are slow
  const bands = [];
  for (const [{ margin }, y] of shown) {
    if (bands.at(-1)?.margin === margin) bands.at(-1).end = y + 0.5;
    else bands.push({ margin, start: y - 0.5, end: y + 0.5 });
  }
  return bands.filter(({ margin }) => margin !== null).map(({ margin, start, end }) => {
    return { type: "rect", layer: "below", x0: to(-margin), x1: to(margin), y0: start, y1: end, fillcolor: colour("band"), line: { width: 0 } };
  });
}

function drawForest(k) {
  const id = `forest-${k}`, asked = refill(find("asked"), [ALL_ASKED, ...unique(data.forest.map((bar) => bar.asked))]);
  const order = ORDERS[refill(find("sorted-by"), Object.keys(ORDERS))];
  const wanted = data.forest.filter((bar) => bar.unit === UNITS[k] && (asked === ALL_ASKED || bar.asked === asked)).sort(order);
  const isCut = wanted.length > MOST_BARS && !find("every").checked, half = MOST_BARS / 2;
  const own = isCut ? [...wanted.slice(0, half), ...wanted.slice(-half)] : wanted;
  find("every").parentElement.hidden = data.forest.length <= MOST_BARS;
  find(`forest-note-${k}`).textContent = isCut ? `${MOST_BARS} of ${wanted.length} comparisons: the first and the last ${half} in this order.` : "";
  const ends = own.flatMap((bar) => [bar.mean, ...(bar.interval ?? []), ...(bar.both ?? []), ...bar.seeds, ...(bar.margin === null ? [] : [bar.margin, -bar.margin])]);
  const usual = median(own.filter((bar) => bar.interval).map((bar) => (bar.interval[1] - bar.interval[0]) / 2));
  const scale = scaleAround(0, own.find((bar) => bar.margin !== null)?.margin ?? usual, ends, isEven(), true);
  const isNarrow = find(id).clientWidth < 640, shown = own.map((bar, i) => [bar, i]);
  const labels = own.map((bar) => plain(`${bar.first} − ${bar.second}`)), numbers = own.map((bar) => barNumber(bar));
  const ticks = shown.map(([, y]) => y), range = [own.length - 0.5, isNarrow ? -0.9 : -0.5];
  const traces = [...forestTraces(shown, scale.to), isNarrow ? namesAbove(shown, labels, numbers, scale, ends) : rightSide(ticks)];
  find(id).style.height = `${Math.max(200, (isNarrow ? 46 : 27) * own.length + 130)}px`;
  return draw(id, traces, {
    shapes: [...marginBands(shown, scale.to), { type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: colour("ink"), width: 1 } }],
    xaxis: axis(scale.isBent ? "better → (logarithmic beyond the band)" : "better →", { zeroline: false, ...scale.axis }),
    yaxis: axis("", { range, zeroline: false, showgrid: false, ...(isNarrow ? { tickvals: [] } : { tickvals: ticks, ticktext: labels }) }),
    yaxis2: { overlaying: "y", side: "right", range, showgrid: false, zeroline: false, tickvals: ticks, ticktext: numbers, automargin: true, visible: !isNarrow },
    margin: { l: 12, r: 12, t: 44, b: 48 },
  });
}

function barNumber(bar) {
  const half = bar.interval && Math.abs(bar.interval[0] + bar.interval[1] - 2 * bar.mean) < 1e-9 ? ` ± ${formatted((bar.interval[1] - bar.interval[0]) / 2, bar.decimals)}` : "";
  return `${formatted(bar.mean, bar.decimals, true)}${half}`;
}

const rightSide = (ticks) => ({ type: "scatter", mode: "markers", x: ticks.map(() => 0), y: ticks, yaxis: "y2", showlegend: false, hoverinfo: "skip", marker: { opacity: 0 } });
function namesAbove(shown, labels, numbers, scale, ends) {
  const left = scale.isBent ? scale.axis.range[0] : Math.min(...ends);
  return {
    type: "scatter", mode: "text", x: shown.map(() => left), y: shown.map(([, y]) => y - 0.38), showlegend: false, hoverinfo: "skip",
    text: labels.map((label, k) => `${numbers[k]}: ${label}`), textposition: "middle right", textfont: { size: 11.5 }, cliponaxis: false,
  };
}

function setUpForest() {
  for (const id of ["asked", "sorted-by"]) {
    find(id).addEventListener("change", () => { keep({ [id]: find(id).value }); redraw(...FORESTS); });
  }
  find("every").checked = state.every ?? false;
  find("every").addEventListener("change", () => { keep({ every: find("every").checked }); redraw(...FORESTS); });
  find("even").checked = state.even ?? false;
  find("even").addEventListener("change", () => { keep({ even: find("even").checked }); redraw(...FORESTS, ...ARM_CHARTS); });
  themeListeners.push(() => redraw(...FORESTS));
}
const FORESTS = UNITS.map((_, k) => `forest-${k}`);
