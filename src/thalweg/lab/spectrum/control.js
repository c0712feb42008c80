/* A governed run: the learning rate under its bounds, what held it, and the threshold that it makes against the sharpness. */
const made = data.decisions, numbered = made.used.map((_, i) => i + 1);
const positive = (values) => values.map((value) => (value > 0 ? value : null));
const ofBound = (name) => colour(`--${name}`) || colour("--c4");

/* Logarithmic, from half of the least to twice the most: a bound that is far above all that is asked for leaves the frame. */
function decades(values, title, domain) {
  const shown = known(positive(values));
  if (!shown.length) return axis({ title: { text: title }, domain });
  const low = Math.min(...shown) / 2, high = 2 * Math.max(...shown);
  return axis({ type: "log", range: [Math.log10(low), Math.log10(high)], dtick: high / low > 100 ? 1 : "D2", title: { text: title }, domain });
}

function rates() {
  const bounds = Object.entries(made.bounds).filter(([, values]) => known(values).length) // AdamW's curvature bounds nothing
    .map(([name, values]) => line(numbered, positive(values), name, ofBound(name), { width: 1.4 }));
  const used = { ...line(numbered, positive(made.used), "used", colour("--used"), { width: 5 }), customdata: made.active,
    hovertemplate: "<b>used</b> %{y:.4g}, held by %{customdata}<br>step %{x}<extra></extra>" };
  return [line(numbered, made.asked, "asked for", ofBound("schedule"), { dash: "dash", width: 2 }), used, ...bounds];
}

/* What held each step, as a strip of colours. */
function holders() {
  const names = [...new Set(made.active)], part = (i) => i / names.length;
  return { type: "heatmap", x: numbered, y: [0], z: [made.active.map((name) => part(names.indexOf(name) + 0.5))], text: [made.active], yaxis: "y3",
    zmin: 0, zmax: 1, colorscale: names.flatMap((name, i) => [[part(i), ofBound(name)], [part(i + 1), ofBound(name)]]), showscale: false,
    hovertemplate: "held by <b>%{text}</b><br>step %{x}<extra></extra>" };
}

/* What the controller compares: its own eigenvalues are of a mini-batch, at the steps that measured one. */
const itsThreshold = made.ratio.map((ratio, i) => (ratio ? made.sharpness[i] / ratio : null));
const itsSharpness = made.sharpness.map((value, i) => (value === made.sharpness[i - 1] ? null : value));

function curvatures() {
  const traces = [line(numbered, made.threshold, "threshold", colour("--used"), { dash: "dash", width: 2 })];
  if (known(made.sharpness).length)
    traces.push(line(numbered, itsThreshold, "the controller's threshold", colour("--used"), { dash: "dot", width: 1.4 }),
      { ...line(numbered, itsSharpness, "its λ̂", ofBound("sharpness")), mode: "markers",
        marker: { size: 8, symbol: "diamond-open", color: ofBound("sharpness"), line: { width: 1.6 } } });
  traces.push(line(steps, edgeOf("sharpness"), "sharpness", ofBound("sharpness"), { width: 3 }));
  return traces.map((trace) => ({ ...trace, yaxis: "y2", legend: "legend2" }));
}

function control() {
  const curved = [...made.threshold, ...itsThreshold, ...edgeOf("sharpness"), ...itsSharpness];
  return { traces: [...rates(), holders(), ...curvatures()], ...legend, legend2: { ...legend.legend, y: -0.12, yanchor: "top" }, xaxis: stepAxis({ anchor: "y2" }),
    yaxis: decades([...made.asked, ...made.used], "learning rate", [0.52, 1]), yaxis2: decades(curved, "curvature", [0, 0.42]),
    yaxis3: axis({ domain: [0.46, 0.49], visible: false }) };
}

const columns = ["asked", "used", "active", "threshold", "sharpness", "residual", "ratio", "cost", "note"];
figure("control-figure", "The learning rate, what held it, and the curvature", control, () => table(["step", ...columns, ...Object.keys(made.bounds)],
  numbered.map((step, i) => [step, ...columns.map((name) => made[name][i]), ...Object.values(made.bounds).map((values) => values[i])])));
