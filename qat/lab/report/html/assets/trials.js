// The table of all trials: filtered and sorted as a whole, drawn a piece at a time.
const PIECE = 80;
const texts = rows.map((row) => row.join("\n").toLowerCase());
const collator = new Intl.Collator("en", { numeric: true });
const box = find("trials-box"), body = element("tbody");
let order = [], drawn = 0;

// A cell's value, or where an arm is pinned what it is above that arm's trial.
function valueOf(i, k, base) {
  if (base < 0 || columns[k].kind !== "number" || rows[i][k] === null) return rows[i][k];
  const other = partner(i, base), value = other === null ? null : rows[other][k];
  return value === null ? null : rows[i][k] - value;
}

function comparison(k, direction) {
  const isNumber = columns[k].kind === "number", base = pinned();
  return (a, b) => {
    const x = valueOf(a, k, base), y = valueOf(b, k, base);
    if (x === null || y === null) return (x === null) - (y === null);
    return direction * (isNumber ? x - y : collator.compare(x, y));
  };
}

function cell(value, column, sign) {
  const made = element(column.head ? "th" : "td", { className: column.kind });
  if (column.head) made.scope = "row";
  if (value !== null && column.mark) made.append(element("span", { className: `mark ${value}` }));
  if (value !== null) made.append(numberOr(value, column, sign));
  return made;
}

const numberOr = (value, column, sign) => (column.kind === "number" ? formatted(value, column.digits, sign) : value);
function trialsText() { // of all trials that the filter leaves, drawn or not
  const base = pinned(), text = (i, column, k) => { const value = valueOf(i, k, base); return value === null ? "" : numberOr(value, column, base >= 0); };
  return [[columns.map((column) => column.name), ...order.map((i) => columns.map((column, k) => text(i, column, k)))], columns.map((column) => column.kind === "number")];
}

function line(i) {
  const base = pinned();
  const tick = element("input", { type: "checkbox", value: i, checked: chosen.has(i), disabled: !data.drawable[i] });
  tick.setAttribute("aria-label", `show ${names[i]} in the charts`);
  tick.addEventListener("change", () => choose([i], tick.checked));
  return element("tr", {}, element("td", {}, tick), ...columns.map((column, k) => cell(valueOf(i, k, base), column, base >= 0)));
}

function more() {
  body.append(...order.slice(drawn, drawn + PIECE).map(line));
  drawn = Math.min(drawn + PIECE, order.length);
}

function showTrials() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const picks = [...document.querySelectorAll("#trials-choices select")].filter((one) => one.value !== "");
  const isWanted = (i) => words.every((word) => texts[i].includes(word))
    && picks.every((one) => (rows[i][one.dataset.column] ?? "") === one.value.slice(1));
  order = rows.map((_, i) => i).filter(isWanted);
  const sorted = columns.findIndex((column) => column.name === state.sort?.[0]), direction = state.sort?.[1];
  if (sorted >= 0) order.sort(comparison(sorted, direction));
  document.querySelectorAll("#trials-box th[aria-sort]").forEach((head, k) => {
    head.setAttribute("aria-sort", k !== sorted ? "none" : direction > 0 ? "ascending" : "descending");
  });
  find("count").textContent = `${order.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} trials`;
  drawn = 0;
  body.replaceChildren();
  more();
}

function sortBy({ name, kind, better }) { // the best come first
  const first = kind === "number" && better !== "lower" ? -1 : 1, [sorted, direction] = state.sort ?? [];
  keep({ sort: sorted !== name ? [name, first] : direction === first ? [name, -first] : null });
  box.scrollTop = 0;
  showTrials();
}

function heading(column) {
  const button = element("button", { type: "button", textContent: column.name });
  button.addEventListener("click", () => sortBy(column));
  const head = element("th", { scope: "col", className: column.kind }, button);
  head.setAttribute("aria-sort", "none");
  return head;
}

function choice(column, k) {
  const values = [...new Set(rows.map((row) => row[k] ?? ""))].sort(collator.compare);
  if (!column.choices || values.length < 2) return [];
  const select = element("select", {}, option("", "all"), ...values.map((value) => option(`=${value}`, value || "none")));
  select.dataset.column = k;
  select.value = state.picks?.[column.name] ?? "";
  if (select.selectedIndex < 0) select.value = "";
  select.addEventListener("change", () => {
    keep({ picks: { ...state.picks, [column.name]: select.value } });
    showTrials();
  });
  return [element("label", {}, column.name, select)];
}

function setUpTrials() {
  const charts = element("th", { scope: "col", textContent: "charts" });
  box.append(element("table", {}, element("thead", {}, element("tr", {}, charts, ...columns.map(heading))), body));
  find("trials-choices").append(...columns.flatMap(choice));
  find("filter").value = state.filter ?? "";
  find("filter").addEventListener("input", () => { keep({ filter: find("filter").value }); showTrials(); });
  box.addEventListener("scroll", () => {
    if (drawn < order.length && box.scrollTop + 2 * box.clientHeight > box.scrollHeight) more();
  });
  showTrials();
  while (state.rows > box.scrollHeight - box.clientHeight && drawn < order.length) more();
  box.scrollTop = state.rows ?? 0;
}
