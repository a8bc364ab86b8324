// Test examples that quantization changes, of an arm or of one trial.
let flipped = null;
const loadedFlips = () => (flipped ??= unpack("flips-data"));
const share = (value) => `${(100 * value).toFixed(value > 0.1 ? 0 : 1)} %`;

async function drawFlips() {
  const found = await loadedFlips(), places = new Map(Object.keys(found.trials).map((i) => [names[i], i]));
  const wanted = refill(find("flips"), [...Object.keys(found.arms), ...places.keys()]);
  const own = Object.hasOwn(found.arms, wanted) ? found.arms[wanted] : found.trials[places.get(wanted)];
  const [lost, won] = own.counts, over = own.seeds > 1 ? `, means over ${own.seeds} seeds` : "";
  const isDetector = [...own.lost, ...own.won].some((one) => one[5]);
  find("flips-note").textContent = isDetector
    ? `Of ${own.examples.toLocaleString("en")} test images the float model finds more of the objects on ${lost}, the quantized one on ${won}${over}. Green boxes find an object of their class, red ones none; dashed are the objects.`
    : `Of ${own.examples.toLocaleString("en")} test examples ${lost} are right in float alone, ${won} right quantized alone${over}.`;
  find("lost-title").textContent = isDetector ? "Float finds more" : "Float right, quantized wrong";
  find("won-title").textContent = isDetector ? "The quantized model finds more" : "Float wrong, quantized right";
  for (const side of ["lost", "won"]) {
    const cards = own[side].map((one) => card(one, found, own.seeds));
    find(side).replaceChildren(...(cards.length ? cards : [element("p", { className: "faint", textContent: "None." })]));
  }
}

function card([index, seeds, scores, said, chances, boxes], { examples, names: classes }, of) {
  const example = examples[index] ?? {}, name = (label) => classes[label] ?? String(label);
  const label = example.label ?? (said && (scores[0] ? said[0] : said[1]));
  const lines = [element("b", { textContent: `example ${index}${label === null || label === undefined ? "" : `: ${name(label)}`}` })];
  const told = ["float", "quantized"].map((model, k) => {
    if (boxes) return `${model}: ${scores[k]} of ${example.objects?.length ?? "its"} objects, ${boxes[k].length} boxes`;
    const chance = chances ? ` (true: ${share(chances[k])})` : "";
    return `${model}: ${said ? name(said[k]) : scores[k] ? "right" : "wrong"}${chance}`;
  });
  lines.push(...told.map((text) => element("span", { textContent: text })));
  if (of > 1) lines.push(element("span", { className: "faint", textContent: `in ${seeds} of ${of} seeds` }));
  const look = boxes ? panes(example, boxes, classes) : picture(example);
  return element("figure", { className: boxes && example.image ? "wide" : "" }, ...look, element("figcaption", {}, ...lines));
}

function picture({ image, text, size }) {
  if (text !== undefined) return [element("blockquote", { textContent: text })];
  if (!image) return [];
  return [element("img", { src: image, alt: "", className: Math.max(...size) <= 64 ? "pixels" : "" })];
}

// The same image twice, with the boxes of float and of the quantized model; dashed are the objects that are there.
function panes({ image, size, objects }, boxes, classes) {
  if (!image) return [];
  const made = boxes.map((found, k) => {
    const svg = shape("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img" });
    svg.setAttribute("aria-label", k ? "quantized" : "float");
    for (const [x0, y0, x1, y1, label] of objects) svg.append(frame(x0, y0, x1, y1, "there", classes[label] ?? label));
    for (const [x0, y0, x1, y1, score, label, hit] of [...found].sort((a, b) => a[6] - b[6])) {
      svg.append(frame(x0, y0, x1, y1, hit ? "hit" : "off", `${classes[label] ?? label} ${score}`));
    }
    return element("div", {}, element("img", { src: image, alt: "" }), svg, element("span", { textContent: k ? "quantized" : "float" }));
  });
  return [element("div", { className: "panes" }, ...made)];
}
function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
function frame(x, y, x1, y1, kind, text) {
  const box = shape("rect", { x, y, width: Math.max(0, x1 - x), height: Math.max(0, y1 - y), class: kind }), title = shape("title", {});
  title.textContent = text;
  box.append(title);
  return box;
}

function setUpFlips() {
  find("flips").addEventListener("change", () => { keep({ flips: find("flips").value }); redraw("lost"); });
}
