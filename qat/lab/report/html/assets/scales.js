// Scales that show small differences beside large ones: even near a place, logarithmic in the distance from it beyond.
const BEND = 12; // times the unit that values reach, from which on an even scale would hide the rest

// `to` turns a value into its place on the axis; `axis` holds what plotly has to know of it.
function scaleAround(place, unit, values, even = false, sign = false) {
  const far = Math.max(...values.map((value) => Math.abs(value - place)), 0);
  if (even || !(unit > 0) || far <= BEND * unit) return { isBent: false, to: (value) => value, axis: {} };
  const to = (value) => (value === null ? null : Math.sign(value - place) * Math.log1p(Math.abs(value - place) / unit));
  const ends = [Math.min(...values), Math.max(...values)];
  const length = to(ends[1]) - to(ends[0]), pad = 0.05 * length;
  const kept = spaced(roundDistances(place, unit, ends), to, length / 14);
  const text = (value) => `${sign && value > 0 ? "+" : ""}${value.toLocaleString("en", { maximumSignificantDigits: 6 })}`;
  return { isBent: true, to, axis: {
    tickvals: kept.map(to), ticktext: kept.map(text), range: [to(ends[0]) - pad, to(ends[1]) + pad], zeroline: false,
  } };
}

// Round values at growing distances on both sides of a place, the nearest first.
function roundDistances(place, unit, [low, high]) {
  const far = Math.max(place - low, high - place), found = [];
  for (let power = Math.floor(Math.log10(unit)); power <= Math.ceil(Math.log10(far)); power += 1) {
    for (const digit of [1, 2, 5]) found.push([digit * 10 ** power, power]);
  }
  const values = found.flatMap(([distance, power]) => [place - distance, place + distance].map((value) => {
    return Number((Math.round(value / 10 ** power) * 10 ** power).toPrecision(12));
  }));
  const start = place === 0 ? [0] : [];
  return [...new Set([...start, ...values])].filter((value) => low <= value && value <= high);
}

function spaced(values, to, gap) {
  const kept = [];
  for (const value of values) {
    if (kept.every((other) => Math.abs(to(other) - to(value)) >= gap)) kept.push(value);
  }
  return kept;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0;
}

const isEven = () => Boolean(find("even")?.checked);
