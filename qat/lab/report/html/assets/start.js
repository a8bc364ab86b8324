// Charts are drawn when they come into sight, and again when what they show has changed.
const drawings = {
  ...Object.fromEntries(FORESTS.map((id, k) => [id, () => drawForest(k)])),
  map: drawMap, axes: drawAxes, differences: drawDifferences, lost: drawFlips, recipes: drawRecipes, curves: drawCurves, layers: drawLayers, histograms: drawHistograms,
  "front-size": () => drawFront("front-size", "size", "size of the model's file, kB"),
  "front-latency": () => drawFront("front-latency", "latency", "latency of one call, ms"),
};
const inSight = new Set();

function redraw(...ids) {
  for (const id of ids.filter((one) => inSight.has(one))) {
    Promise.resolve().then(drawings[id]).catch((error) => {
      console.error(error);
      find(id).textContent = `This chart could not be drawn here: ${error.message}`;
    });
  }
}
function see(id) {
  if (inSight.has(id)) return;
  inSight.add(id);
  redraw(id);
}
function setUpCharts() {
  const ids = Object.keys(drawings).filter(find);
  const watch = (entries) => entries.filter((one) => one.isIntersecting).forEach((one) => see(one.target.id));
  const observer = new IntersectionObserver(watch, { rootMargin: "500px" });
  ids.forEach((id) => observer.observe(find(id)));
  addEventListener("beforeprint", () => ids.forEach(see));
  themeListeners.push(() => redraw(...ARM_CHARTS, "axes"));
}

setUpTheme();
setUpAddress();
setUpCharts();
if (find("asked")) setUpForest();
if (find("chips")) setUpChosen();
if (find("map")) setUpMap();
if (find("flips")) setUpFlips();
if (find("left")) setUpDifferences();
setUpTrials();
if (find("pin")) setUpPin();
setUpTables();
comeBack();
goToSection();
if (find("live")) setUpLive();
