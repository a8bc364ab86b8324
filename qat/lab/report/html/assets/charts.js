// Charts of the arms, and what all charts share. Text goes through `plain`: plotly would read some markup in it.
const OPTIONS = {
  responsive: true, displaylogo: false, displayModeBar: innerWidth > 640 ? "hover" : false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};
const ARMS = { float: "float", control: "control", ptq: "PTQ", qat: "QAT" };
const SYMBOLS = { float: "diamond", control: "cross", ptq: "circle", qat: "square" };
const ARM_CHARTS = ["recipes", "front-size", "front-latency"];
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const probe = document.body.appendChild(element("span", { hidden: true }));
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function axis(title, more = {}) {
  const line = colour("line");
  const said = title ? { title: { text: plain(title), font: { size: 13 }, standoff: 8 } } : {};
  return { ...said, gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...more };
}

// Ticks at few digits of each power of ten, written out; plotly's own leave the zeros away. What differs by less than a
// factor of two does not fill the axis: it is little, and of latencies mostly noise.
function logAxis(title, values) {
  const found = [Math.min(...values), Math.max(...values)].map(Math.log10), powers = [];
  const more = Math.max(0, (Math.log10(data.span) - found[1] + found[0]) / 2), ends = [found[0] - more, found[1] + more];
  for (let power = Math.floor(ends[0]); power <= Math.ceil(ends[1]); power += 1) powers.push(power);
  const digits = ends[1] - ends[0] < 1 ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 2, 5];
  const tickvals = powers.flatMap((power) => digits.map((digit) => digit * 10 ** power));
  const pad = 0.06 * (ends[1] - ends[0]), range = [ends[0] - pad, ends[1] + pad];
  return axis(title, { type: "log", tickvals, ticktext: tickvals.map((at) => Number(at.toPrecision(2)).toLocaleString("en")), range });
}

function draw(id, traces, layout, options = {}) {
  if (options.displayModeBar !== false) offerFigure(id);
  const clear = "rgba(0,0,0,0)", ink = colour("ink");
  return Plotly.react(find(id), traces, {
    paper_bgcolor: clear, plot_bgcolor: clear, hovermode: "closest", margin: { l: 56, r: 16, t: 60, b: 48 },
    font: { family: "system-ui, sans-serif", size: 13, color: ink },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: ink }, align: "left" },
    modebar: { bgcolor: clear, color: colour("faint"), activecolor: colour("accent") },
    ...layout,
  }, { ...OPTIONS, ...options });
}

function describe(point) {
  const formatted = (value) => (data.decimals === null ? String(Number(value.toPrecision(4))) : value.toFixed(data.decimals)), spread = point.low === null ? "" : `, 95 % interval ${formatted(point.low)} to ${formatted(point.high)}`;
  const lines = [`<b>${plain(point.label)}</b>`, `${plain(data.metric)}: ${formatted(point.value)}${spread} (n = ${point.n})`];
  if (point.seeds.length) lines.push(`seed by seed ${point.seeds.map(formatted).join(", ")}`);
  if (point.size !== null) lines.push(`${point.size.toLocaleString("en", { maximumFractionDigits: 1 })} kB`);
  if (point.latency !== null) lines.push(`${point.latency.toPrecision(3)} ms`);
  return lines.join("<br>");
}

function byArm(points, x, scale) {
  const isCrowd = points.length > data.crowd, to = scale.to;
  return Object.keys(ARMS).flatMap((arm) => {
    const own = points.filter((point) => point.arm === arm);
    if (!own.length) return [];
    const ends = {
      type: "data", symmetric: false, visible: !isCrowd, color: colour(arm), thickness: 1.3, width: 4,
      array: own.map((point) => to(point.high ?? point.value) - to(point.value)),
      arrayminus: own.map((point) => to(point.value) - to(point.low ?? point.value)),
    };
    const arms = {
      type: "scatter", mode: "markers", name: ARMS[arm], legendgroup: arm, x: own.map(x), y: own.map((point) => to(point.value)),
      customdata: own.map((point) => point.label), hovertext: own.map(describe), hoverinfo: "text", error_y: ends, cliponaxis: false,
      marker: { color: colour(arm), symbol: SYMBOLS[arm], size: isCrowd ? 7 : 10, opacity: isCrowd ? 0.75 : 1 },
    };
    const few = isCrowd ? [] : own.filter((point) => point.seeds.length);
    return few.length ? [arms, {
      type: "scatter", mode: "markers", legendgroup: arm, showlegend: false, hoverinfo: "skip", cliponaxis: false,
      x: few.flatMap((point) => point.seeds.map(() => x(point))), y: few.flatMap((point) => point.seeds.map(to)),
      marker: { color: colour(arm), symbol: "line-ew-open", size: 9, line: { width: 1.5 } },
    }] : [arms];
  });
}

// The metric's scale, around the float model, or the best arm: what lies far below would hide all differences above.
function metricScale() {
  const values = data.points.map((point) => point.value), isLower = data.better === "lower";
  const best = data.points.find((point) => point.arm === "float")?.value ?? (isLower ? Math.min(...values) : Math.max(...values));
  const halves = data.points.map((point) => (point.low === null ? 0 : (point.high - point.low) / 2)).filter((half) => half > 0);
  const ends = data.points.flatMap((point) => [point.value, ...point.seeds, ...(point.low === null ? [] : [point.low, point.high])]);
  return scaleAround(best, data.margin ?? median(halves), ends, isEven());
}

function metricAxis(scale) { // no value lies outside of the metric's range
  const [clipmin, clipmax] = data.range ?? [null, null], ends = {};
  if (clipmin !== null) ends.clipmin = clipmin;
  if (clipmax !== null) ends.clipmax = clipmax;
  return axis(data.axis, scale.isBent ? scale.axis : { autorangeoptions: ends });
}

async function drawArms(id, traces, layout) {
  await draw(id, traces, layout);
  find(id).removeAllListeners("plotly_click");
  find(id).on("plotly_click", ({ points }) => { if (points[0].customdata !== undefined) leadToMap(points[0].customdata); });
}

function drawRecipes() {
  const nameOf = (point) => point.recipe ?? ARMS[point.arm];
  const names = [...new Set(data.points.map(nameOf))];
  const sides = { float: 0, control: 0, ptq: -0.15, qat: 0.15 }, crowds = new Map();
  for (const point of data.points) {
    const key = `${point.arm} ${point.recipe}`;
    crowds.set(key, [...(crowds.get(key) ?? []), point]);
  }
  const x = (point) => { // points of one arm and recipe stand side by side
    const crowd = crowds.get(`${point.arm} ${point.recipe}`);
    const aside = crowd.length > 1 ? crowd.indexOf(point) / (crowd.length - 1) - 0.5 : 0;
    return names.indexOf(nameOf(point)) + sides[point.arm] + 0.22 * aside;
  };
  const isNamed = names.length <= data.named, range = [-0.5, names.length - 0.5];
  const ticks = isNamed ? { tickvals: names.map((_, i) => i), ticktext: names.map((name) => plain(name).replace("(", "<br>(")) } : { tickvals: [] };
  const xaxis = axis(isNamed ? "" : "recipes in the order of the study", { ...ticks, range, zeroline: false });
  const scale = metricScale();
  drawArms("recipes", byArm(data.points, x, scale), { xaxis, yaxis: metricAxis(scale) });
}

function drawFront(id, cost, title) {
  const points = data.points.filter((point) => point[cost] !== null), costs = points.map((point) => point[cost]);
  const scale = metricScale(), best = data.fronts[cost].map((i) => data.points[i]);
  const front = { // drawn on to the right, where more cost buys no more
    type: "scatter", mode: "lines", name: "front", hoverinfo: "skip",
    x: [...best.map((point) => point[cost]), Math.max(...costs)], y: [...best, best.at(-1)].map((point) => scale.to(point.value)),
    line: { shape: "hv", color: colour("faint"), width: 1.5, dash: "dot" },
  };
  drawArms(id, [front, ...byArm(points, (point) => point[cost], scale)], { xaxis: logAxis(title, costs), yaxis: metricAxis(scale) });
}
