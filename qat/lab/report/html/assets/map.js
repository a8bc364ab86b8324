// The model as its modules, with its sites in the order of the data flow, coloured by what is known of each.
const numberOf = (site, kind, k) => site[2].find((one) => one[1] === kind)?.[k] ?? null;
const percent = (value) => `${Number((100 * value).toPrecision(2))} %`, decibels = (value) => `${value.toFixed(1)} dB`, bitsText = (value) => `${value} bits`;
// Of each overlay its value at a site, how it reads, and whether more of it is better.
const OVERLAYS = {
  "noise of the result (SQNR)": [(site) => site[1], decibels, true],
  "bits of weights": [(site) => numberOf(site, "weight", 2), bitsText, true],
  "bits of activations": [(site) => numberOf(site, "activation", 2), bitsText, true],
  "noise of weights (SQNR)": [(site) => numberOf(site, "weight", 6), decibels, true],
  "noise of activations (SQNR)": [(site) => numberOf(site, "activation", 6), decibels, true],
  "clipped weights": [(site) => numberOf(site, "weight", 5), percent, false],
  "clipped activations": [(site) => numberOf(site, "activation", 5), percent, false],
};

// Further numbers that a trial has of its operands, such as those of training, by their own names.
function overlaysOf(sites) {
  const more = unique(sites.flatMap((site) => site[2].flatMap((one) => Object.keys(one[7] ?? {}).map((name) => `${name} (${one[1]})`))));
  const found = Object.fromEntries(more.map((name) => {
    const [, field, kind] = name.match(/^(.*) \((.*)\)$/);
    return [name, [(site) => numberOf(site, kind, 7)?.[field] ?? null, (value) => String(Number(value.toPrecision(3))), false]];
  }));
  return Object.fromEntries(Object.entries({ ...OVERLAYS, ...found }).filter(([, [value]]) => sites.some((site) => value(site) !== null)));
}

// Modules within modules; chains of one child are one.
function treeOf(sites) {
  const root = { name: "", children: [], byName: new Map() };
  for (const site of sites) {
    const parts = site[0].split(":")[0].split("/");
    let place = root;
    for (const part of parts.slice(0, -1)) {
      if (!place.byName.has(part)) {
        const made = { name: part, children: [], byName: new Map() };
        place.byName.set(part, made);
        place.children.push(made);
      }
      place = place.byName.get(part);
    }
    place.children.push({ site, name: `${parts.at(-1)}${site[0].slice(site[0].indexOf(":")).replace(/:0$/, "")}` });
  }
  return root;
}

async function drawMap() {
  const { layers } = await loaded(), own = [...chosen].filter((i) => layers[i]), box = find("map");
  const trial = refill(find("map-of"), own.map((i) => names[i])), sites = own.length ? layers[names.indexOf(trial)] : [];
  const overlays = overlaysOf(sites), overlay = refill(find("overlay"), Object.keys(overlays));
  if (!overlay) {
    box.replaceChildren(element("p", { className: "faint", textContent: "Choose a quantized trial above." }));
    return;
  }
  const [value, text, moreIsBetter] = overlays[overlay], found = sites.map(value).filter((one) => one !== null);
  const low = Math.min(...found), high = Math.max(...found);
  const look = (site) => {
    const one = value(site), share = high > low ? (one - low) / (high - low) : 1;
    return one === null ? ["", site[2].length ? "not known" : "float"] : [mixed(moreIsBetter ? share : high > low ? 1 - share : 1), text(one)];
  };
  box.replaceChildren(...branches(treeOf(sites), look));
}

function branches(place, look) {
  return place.children.map((child) => {
    if (child.site) return tile(child, look(child.site));
    let [one, name] = [child, child.name];
    while (one.children.length === 1 && !one.children[0].site) [one, name] = [one.children[0], `${name}/${one.children[0].name}`];
    return element("div", { className: "module" }, element("span", { textContent: name }), element("div", {}, ...branches(one, look)));
  });
}

function tile({ site, name }, [shade, text]) {
  const made = element("button", { type: "button", title: `${site[0]}: ${text}` }, element("span", { textContent: name }), element("b", { textContent: text }));
  if (shade) made.style.setProperty("--shade", shade);
  made.addEventListener("click", () => { keep({ site: site[0] }); redraw("histograms"); find("site").scrollIntoView({ block: "center" }); });
  return made;
}

// A point of the charts above leads to its arm's first trial here.
function leadToMap(label) {
  const arm = data.groups.findIndex((group) => group.label === label), trial = members[arm]?.find((i) => data.drawable[i]);
  if (trial === undefined || !find("map")) return;
  if (!chosen.has(trial)) choose(chosen.size < MOST ? [trial] : [], true);
  keep({ "map-of": names[trial] });
  redraw("map");
  find("map-title").scrollIntoView();
}

function setUpMap() {
  for (const id of ["map-of", "overlay"]) find(id).addEventListener("change", () => { keep({ [id]: find(id).value }); redraw("map"); });
  themeListeners.push(() => redraw("map"));
}
