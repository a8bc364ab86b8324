// An arm pinned as the baseline: every column of numbers becomes a signed difference from it, paired by seed.
const NO_PIN = "none: the values themselves";
const { columns, rows } = data.trials;
const pinned = () => data.groups.findIndex((group) => group.label === state.pin);
const FEW_SEEDS = 4; // of fewer the differences are shown, and no interval
const bySeed = new Map(data.group.map((group, i) => [`${group} ${data.seeds[i]}`, i]));

// The trial of an arm that a trial is fairly compared with: its float model, control or PTQ, else that of its seed.
function partner(i, arm) {
  if (data.group[i] === arm) return i;
  const kin = data.kin[i].find((j) => j !== null && data.group[j] === arm);
  return kin ?? bySeed.get(`${arm} ${data.seeds[i]}`) ?? null;
}
const members = data.groups.map((_, arm) => data.group.flatMap((group, i) => (group === arm ? [i] : [])));
function pairs(arm, base) { // from the side that finds more: seeds may share a float model
  const there = members[arm].map((i) => [i, partner(i, base)]), back = members[base].map((j) => [partner(j, arm), j]);
  return [there, back].map((found) => found.filter(([i, j]) => i !== null && j !== null)).reduce((a, b) => (b.length > a.length ? b : a));
}

// The mean difference of two arms in a column, with half of its 95 % interval by Student's t (null of one seed).
function difference(arm, base, k) {
  const found = pairs(arm, base).filter(([i, j]) => rows[i][k] !== null && rows[j][k] !== null).map(([i, j]) => rows[i][k] - rows[j][k]);
  if (!found.length) return null;
  const n = found.length, mean = found.reduce((sum, value) => sum + value, 0) / n;
  const spread = Math.sqrt(found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
  return { mean, half: n > 1 ? data.t[n - 2] * spread / Math.sqrt(n) : null, n, values: found };
}

function pinnedCell(arm, base, k) {
  const column = columns[k], made = element("td", { className: "number" }), found = difference(arm, base, k);
  if (!found) return made;
  const text = (value, sign) => formatted(value, column.digits, sign), { mean, half, n, values } = found;
  const few = n < FEW_SEEDS && half > 0, isShown = half !== null && !few && Math.abs(mean) > half && mean !== 0;
  if (column.better && isShown) {
    const kind = (mean > 0) === (column.better === "higher") ? "better" : "worse";
    made.append(element("abbr", { className: `sign ${kind}`, title: kind, textContent: kind === "better" ? "▲ " : "▼ " }));
    made.classList.add(kind);
  }
  const fewer = n < members[arm].length ? ` (n = ${n})` : "";
  made.append(text(mean, true), few ? ` (${values.map((value) => text(value, true)).join(", ")})` : half ? ` ± ${text(half)}` : "", fewer);
  return made;
}

function showPinned() {
  const base = pinned(), old = find("arms-pinned"), numbers = columns.flatMap((column, k) => (column.kind === "number" ? [k] : []));
  old?.remove();
  find("arms").hidden = base >= 0;
  find("pin-note").hidden = base < 0;
  if (base < 0) return;
  const heads = ["arm", "seeds", ...numbers.map((k) => columns[k].name)].map((name, at) => element("th", { scope: "col", textContent: name, className: at ? "number" : "" }));
  const lines = data.groups.flatMap((group, arm) => {
    const finished = members[arm].filter((i) => numbers.some((k) => rows[i][k] !== null));
    if (!finished.length) return [];
    const name = element("th", { scope: "row" }, element("span", { className: `mark ${group.arm}` }), group.label, arm === base ? element("b", { textContent: " (pinned)" }) : "");
    const cells = numbers.map((k) => (arm === base ? meanCell(finished, k) : pinnedCell(arm, base, k)));
    return [element("tr", { className: arm === base ? "pinned" : "" }, name, element("td", { className: "number", textContent: finished.length }), ...cells)];
  });
  find("arms").after(element("table", { id: "arms-pinned" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...lines)));
}

function meanCell(trials, k) {
  const values = trials.map((i) => rows[i][k]).filter((value) => value !== null);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return element("td", { className: "number", textContent: values.length ? formatted(mean, columns[k].digits) : "" });
}

function setUpPin() {
  const arms = data.groups.filter((group) => group.arm).map((group) => group.label);
  find("pin").replaceChildren(...[NO_PIN, ...arms].map((name) => option(name)));
  find("pin").value = arms.includes(state.pin) ? state.pin : NO_PIN;
  find("pin").addEventListener("change", () => {
    keep({ pin: find("pin").value === NO_PIN ? "" : find("pin").value });
    showPinned();
    showTrials();
  });
  showPinned();
}
