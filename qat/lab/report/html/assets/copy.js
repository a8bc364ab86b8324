// Tables as text for the clipboard, and figures as files.
const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "×": "$\\times$", "≈": "$\\approx$",
  "≡": "$\\equiv$", "▲": "$\\uparrow$", "▼": "$\\downarrow$", "−": "$-$", "→": "$\\to$" };
const FORMATS = {
  Markdown([head, ...lines], numbers) {
    const cells = (line) => `| ${line.map((text) => text.replace(/[\\`*_[\]<|]/g, "\\$&")).join(" | ")} |`;
    return [cells(head), `| ${numbers.map((one) => (one ? "---:" : "---")).join(" | ")} |`, ...lines.map(cells)].join("\n");
  },
  CSV: (lines) => lines.map((line) => line.map((text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text)).join(",")).join("\n"),
  LaTeX([head, ...lines], numbers) {
    const escaped = (text) => text.replace(/[\\~^±×≈≡▲▼−→]|[&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);
    const cells = (line) => `  ${line.map(escaped).join(" & ")} \\\\`;
    const columns = numbers.map((one) => (one ? "r" : "l")).join("");
    return [`\\begin{tabular}{${columns}}`, "  \\toprule", cells(head), "  \\midrule", ...lines.map(cells), "  \\bottomrule", "\\end{tabular}"].join("\n");
  },
};

async function copyText(text, button) {
  const before = button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch { // no clipboard without a secure address, or the reader forbade it
    const area = document.body.appendChild(element("textarea", { value: text, className: "off" }));
    area.select();
    button.textContent = document.execCommand("copy") ? "copied" : "not allowed";
    area.remove();
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

const cellText = (cell) => cell.textContent.replace(/\s+/g, " ").trim();
function tableText(table) { // its lines as texts, and which columns hold numbers
  const lines = [...table.rows].map((row) => [...row.cells].map(cellText));
  return [lines, [...table.rows[0].cells].map((cell) => cell.classList.contains("number"))];
}

function offerTable(box, read) {
  const buttons = Object.keys(FORMATS).map((name) => {
    const button = element("button", { type: "button", textContent: name });
    button.setAttribute("aria-label", `copy the table ${box.getAttribute("aria-label")} as ${name}`);
    button.addEventListener("click", () => copyText(FORMATS[name](...read()), button));
    return button;
  });
  box.after(element("p", { className: "copy" }, "Copy as ", ...buttons));
}
function setUpTables() {
  for (const box of document.querySelectorAll(".box[aria-label]")) {
    if (box.id === "trials-box") offerTable(box, trialsText);
    else offerTable(box, () => tableText(box.querySelector("table:not([hidden])")));
  }
}

function offerFigure(id) { // below the chart, on the page's own colour
  const figure = find(id).closest("figure");
  if (figure.querySelector(".copy")) return;
  const buttons = ["svg", "png"].map((format) => {
    const button = element("button", { type: "button", textContent: format.toUpperCase() });
    button.setAttribute("aria-label", `save this figure as ${format.toUpperCase()}`);
    button.addEventListener("click", () => {
      const chart = find(id), layout = { ...chart.layout, paper_bgcolor: colour("paper") };
      const size = { width: chart.clientWidth, height: chart.clientHeight, scale: format === "png" ? 2 : 1 };
      Plotly.downloadImage({ data: chart.data, layout }, { format, filename: `${data.study} ${id}`.replace(/[^\w.-]+/g, "-"), ...size });
    });
    return button;
  });
  figure.append(element("p", { className: "copy" }, "Save as ", ...buttons));
}
