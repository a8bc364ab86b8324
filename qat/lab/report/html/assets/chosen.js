// Charts of single trials, which the reader chooses by name, by arm, or in the table.
const MOST = 24; // trials at once
const HUES = { float: 2, control: 2, ptq: 4, qat: 4 }; // colours of an arm: --qat, --qat1, ...
const DASHES = ["solid", "dash", "dot", "dashdot"];
const ALL_STAGES = "all, one after another";
const names = data.names;
const chosen = new Set((state.chosen ?? data.chosen).map((name) => names.indexOf(name)).filter((i) => data.drawable[i]));
const groupOf = (i) => data.groups[data.group[i]];
const titleOf = (i) => groupOf(i).label + (data.seeds[i] === null ? "" : `, ${data.seeds[i]}`);
const unique = (values) => [...new Set(values)];
let details = null, bins = null;
const loaded = () => (details ??= unpack("details"));

function styles() {
  const count = {}, made = new Map();
  for (const group of unique([...chosen].map(groupOf))) {
    const arm = group.arm in HUES ? group.arm : "float", k = count[arm] = (count[arm] ?? -1) + 1;
    made.set(group, { color: colour(arm + (k % HUES[arm] || "")), dash: DASHES[Math.floor(k / HUES[arm]) % DASHES.length] });
  }
  return made;
}

function choose(indices, wanted) {
  for (const i of indices) {
    if (!wanted) chosen.delete(i);
    else if (chosen.size < MOST && data.drawable[i]) chosen.add(i);
  }
  keep({ chosen: [...chosen].map((i) => names[i]) });
  for (const tick of document.querySelectorAll("#trials-box input")) tick.checked = chosen.has(Number(tick.value));
  showChosen();
}

function chip(i, look) {
  const swatch = element("span", { className: "swatch" }), away = element("button", { type: "button", textContent: "×" });
  swatch.style.background = look.get(groupOf(i)).color;
  away.setAttribute("aria-label", `take ${names[i]} out of the charts`);
  away.addEventListener("click", () => choose([i], false));
  return element("li", { title: names[i] }, swatch, titleOf(i), away);
}

function showChosen() {
  const look = styles();
  find("chips").replaceChildren(...[...chosen].map((i) => chip(i, look)));
  const full = chosen.size >= MOST ? `${MOST} trials are the most at once.` : "";
  find("chosen-note").textContent = chosen.size ? full : "Choose trials above, or by the ticks in the table of all trials.";
  redraw("curves", "map", "layers", "histograms");
}

function offerNames() {
  if (find("names").children.length) return;
  const arms = data.groups.map((group) => `${group.label} (all seeds)`);
  find("names").append(...[...arms, ...names].map((name) => option(name)));
}

function addByName() {
  const name = find("add").value, one = names.indexOf(name);
  const arm = data.groups.findIndex((group) => `${group.label} (all seeds)` === name);
  if (one < 0 && arm < 0) return;
  find("add").value = "";
  choose(one < 0 ? names.map((_, i) => i).filter((i) => data.group[i] === arm) : [one], true);
}

async function drawCurves() {
  const { curves, series } = await loaded(), look = styles(), named = new Set();
  const own = [...chosen].filter((i) => curves[i]), parts = own.flatMap((i) => curves[i].map((k) => series[k]));
  const stage = refill(find("stage"), [ALL_STAGES, ...unique(parts.map(([name]) => name))]);
  const metric = refill(find("metric"), unique(parts.flatMap((part) => Object.keys(part[2]))));
  const alike = Map.groupBy(own, (i) => curves[i].join()); // PTQ has the curve of the float model that it starts from
  const traces = [...alike.values()].map(([i, ...others]) => {
    const x = [], y = [], group = groupOf(i), showlegend = !named.has(group);
    const more = others.length ? ` and ${others.length} alike` : "", titles = [i, ...others].map(titleOf).map(plain).join("<br>");
    let start = 0;
    for (const [name, steps, values] of curves[i].map((k) => series[k])) {
      if (stage !== ALL_STAGES && stage !== name) continue;
      if (values[metric]) { x.push(...steps.map((step) => step + start)); y.push(...values[metric]); }
      if (stage === ALL_STAGES) start += steps.at(-1) ?? 0;
    }
    named.add(group);
    return {
      type: "scatter", mode: "lines", name: plain(group.label + more), legendgroup: data.group[i], showlegend, x, y,
      line: { width: 1.7, ...look.get(group) }, hoverinfo: "text",
      hovertext: y.map((value, k) => `<b>${titles}</b><br>step ${x[k]}: ${plain(metric)} ${value}`),
    };
  }).filter((trace) => trace.x.length);
  await draw("curves", traces, { xaxis: axis("step"), yaxis: axis(metric ?? "", { type: find("log").checked ? "log" : "linear" }) });
}

const sideOf = ([side, kind]) => `${kind} (${side})`;
async function drawLayers() {
  const { layers } = await loaded(), look = styles(), own = [...chosen].filter((i) => layers[i]);
  const sites = unique(own.flatMap((i) => layers[i].map((site) => site[0])));
  const sides = unique(own.flatMap((i) => layers[i].flatMap((site) => site[2].map(sideOf))));
  const side = refill(find("operand"), own.length ? ["output", ...sides] : []);
  const noise = (i, name) => {
    const site = layers[i].find((one) => one[0] === name);
    return (side === "output" ? site?.[1] : site?.[2].find((one) => sideOf(one) === side)?.[6]) ?? null;
  };
  const traces = unique(own.map(groupOf)).map((group) => {
    const seeds = own.filter((i) => groupOf(i) === group);
    const x = sites.map((name) => {
      const found = seeds.map((i) => noise(i, name)).filter((value) => value !== null);
      return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : null;
    });
    const hover = x.map((value, k) => `<b>${plain(group.label)}</b>, seeds: ${seeds.length}<br>${plain(sites[k])}<br>${value?.toFixed(1)} dB`);
    return {
      type: "scatter", mode: "lines+markers", name: plain(group.label), x, y: sites.map(plain), customdata: sites,
      line: { width: 1, ...look.get(group) }, marker: { size: 9, symbol: SYMBOLS[group.arm] }, hovertext: hover, hoverinfo: "text",
    };
  });
  find("layers").style.minHeight = "";
  find("layers").style.height = `${Math.max(300, 26 * sites.length + 140)}px`;
  await draw("layers", traces, {
    xaxis: axis("SQNR, dB (more is better)"),
    yaxis: axis("", { autorange: "reversed", type: "category" }), margin: { l: 60, r: 16, t: 70, b: 48 },
  });
  find("layers").removeAllListeners("plotly_click");
  find("layers").on("plotly_click", ({ points }) => { keep({ site: points[0].customdata }); redraw("histograms"); });
}

async function drawHistograms() {
  const [{ layers }, counts] = await Promise.all([loaded(), (bins ??= unpack("bins"))]);
  const own = [...chosen].filter((i) => layers[i]), shown = own.filter((i) => counts[i]), box = find("histograms");
  const site = refill(find("site"), unique(own.flatMap((i) => layers[i].map((one) => one[0]))));
  const charts = shown.flatMap((i) => {
    const at = layers[i].findIndex((one) => one[0] === site);
    const operands = at < 0 ? [] : layers[i][at][2];
    return operands.map((operand, k) => [i, operand, counts[i][at][k]]).filter(([, , found]) => found[2]);
  });
  box.querySelectorAll(".chart").forEach((chart) => Plotly.purge(chart));
  box.style.minHeight = "";
  box.replaceChildren(...charts.map(([i, operand], k) => {
    return element("figure", {}, caption(i, operand), element("div", { className: "chart", id: `bins-${k}` }));
  }));
  charts.forEach(([i, operand, found], k) => drawBins(`bins-${k}`, groupOf(i).arm, operand, found));
  const missing = own.length - shown.length;
  find("bins-note").textContent = missing ? `Histograms of ${missing} of the chosen trials are left out to keep the page small.` : "";
}

function caption(i, [side, kind, bits, , , clipped, noise]) {
  const facts = [sideOf([side, kind])];
  if (bits !== null) facts.push(`${bits} bits`);
  if (clipped !== null) facts.push(`${Number((100 * clipped).toPrecision(2))} % clipped`);
  if (noise !== null) facts.push(`${noise.toFixed(1)} dB`);
  return element("figcaption", {}, element("b", { textContent: titleOf(i) }), facts.join(" · "));
}

function drawBins(id, arm, [, , , low, high], [first, last, signs]) {
  const width = (last - first) / signs.length, x = [...signs].map((_, k) => first + (k + 0.5) * width);
  const isOutside = (at) => (low !== null && at < low) || (high !== null && at > high);
  const edges = [low, high].filter((at) => at !== null).map((at) => {
    return { type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line: { color: colour("ink"), width: 1.5, dash: "dash" } };
  });
  const bars = {
    type: "bar", x, y: [...signs].map((sign) => data.heights.indexOf(sign)), width, hoverinfo: "text",
    hovertext: x.map((at) => at.toPrecision(3) + (isOutside(at) ? ", clipped" : "")),
    marker: { color: x.map((at) => colour(isOutside(at) ? "cut" : arm)), line: { width: 0 } },
  };
  draw(id, [bars], {
    shapes: edges, showlegend: false, bargap: 0, margin: { l: 12, r: 12, t: 10, b: 28 },
    xaxis: axis("", { zeroline: false }), yaxis: axis("", { showticklabels: false, showgrid: false, range: [0, data.heights.length] }),
  }, { displayModeBar: false });
}

function setUpChosen() {
  for (const [id, needs] of [["stage", "curves"], ["metric", "curves"], ["operand", "layers"], ["site", "histograms"]]) {
    find(id).addEventListener("change", () => { keep({ [id]: find(id).value }); redraw(needs); });
  }
  find("log").checked = state.log ?? false;
  find("log").addEventListener("change", () => { keep({ log: find("log").checked }); redraw("curves"); });
  find("add").addEventListener("change", addByName);
  find("add").addEventListener("focus", offerNames);
  themeListeners.push(showChosen);
  showChosen();
}
