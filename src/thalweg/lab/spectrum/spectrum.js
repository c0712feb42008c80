const probes = data.probes, portraits = data.portraits, steps = probes.map((probe) => probe.step);
const of = (name) => probes.map((probe) => probe[name]);
const known = (values) => values.filter((value) => value !== null);
const edgeOf = (name) => probes.map((probe) => probe.edge?.[name] ?? null);
const compared = known(edgeOf("ratio")).length > 0;

const line = (x, y, name, ink, extra) => ({ x, y, name, mode: "lines", line: { color: ink, width: 2.4, ...extra }, connectgaps: false,
  hovertemplate: `<b>${name}</b> %{y:.4g}<br>step %{x}<extra></extra>` });
const stepAxis = (extra) => axis({ title: { text: "step" }, range: [-0.01 * data.steps, 1.01 * data.steps], ...extra });
const legend = { showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" } };

/* A magnitude: from 0, or logarithmic when it spans much. */
function magnitude(values, title) {
  const shown = known(values), high = Math.max(...shown), low = Math.min(...shown);
  if (low > 0 && high / low > 20) return view(shown, { title: { text: title }, dtick: high / low > 100 ? 1 : "D2" }).axis;
  return axis({ title: { text: title }, range: [Math.min(0, 1.08 * low), 1.08 * high] });
}

function edge() {
  if (!compared) {
    const top = probes.map((probe) => probe.eigenvalues[0]);
    return { traces: [line(steps, top, "λ₁ of the Hessian", colour("--c1"))], xaxis: stepAxis(), yaxis: magnitude(top, "curvature") };
  }
  const sharpness = edgeOf("sharpness"), threshold = edgeOf("threshold"), batch = of("batch_sharpness");
  const traces = [line(steps, threshold, "threshold", colour("--c2"), { dash: "dash", width: 2 })];
  if (known(batch).length)
    traces.push({ ...line(steps, batch, "batch sharpness", colour("--c3"), { dash: "dot", width: 1.2 }), mode: "lines+markers", marker: { size: 5, color: colour("--c3") } });
  traces.push(line(steps, sharpness, "sharpness", colour("--c1"), { width: 3 }));
  return { traces, ...legend, xaxis: stepAxis(), yaxis: magnitude([...sharpness, ...threshold, ...batch], "curvature") };
}

function ratio() {
  const values = edgeOf("ratio"), yaxis = magnitude([...values, 1.2], "sharpness ÷ threshold"), log = yaxis.type === "log";
  const top = log ? 10 ** yaxis.range[1] : yaxis.range[1];
  return { traces: [{ ...line(steps, values, "sharpness ÷ threshold", colour("--c1")), error_y: { type: "data", array: edgeOf("residual"), color: faded(colour("--c1"), 0.5), thickness: 1, width: 0 } }],
    shapes: [
      { type: "rect", xref: "paper", x0: 0, x1: 1, y0: 1, y1: top, fillcolor: faded(colour("--c2"), 0.12), line: { width: 0 }, layer: "below" },
      { type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colour("--c2"), width: 2, dash: "dash" } },
    ],
    // Annotations take logarithms where shapes take values.
    annotations: [{ xref: "paper", x: 0.99, xanchor: "right", y: log ? 0 : 1, yanchor: "bottom", text: "unstable above", showarrow: false, font: { size: 11.5, color: colour("--c2") } }],
    xaxis: stepAxis(), yaxis };
}

function loss() {
  const batches = data.losses.map((_, i) => i + 1);
  return { traces: [
    { ...line(batches, data.losses, "mini-batch", colour("--c4"), { width: 1 }), opacity: 0.75 },
    line(steps, of("loss"), "probe batch", colour("--c1")),
  ], ...legend, xaxis: stepAxis(), yaxis: magnitude([...data.losses, ...of("loss")], "training loss") };
}

function eigenvalues() {
  const count = probes[0].eigenvalues.length, traces = [];
  for (let i = 0; i < count; i++)
    traces.push(line(steps, probes.map((probe) => probe.eigenvalues[i]), `λ<sub>${i + 1}</sub>`,
      faded(colour("--c1"), 1 - 0.75 * (i / Math.max(1, count - 1))), { width: i ? 1.6 : 3 }));
  return { traces, ...legend, xaxis: stepAxis(), yaxis: magnitude(probes.flatMap((probe) => probe.eigenvalues), "eigenvalue") };
}

const inks = () => (portraits.length > 1 ? [colour("--c4"), colour("--c1")] : [colour("--c1")]);

function density() {
  const top = Math.max(...portraits.flatMap((portrait) => portrait.values));
  // A single eigenvalue stands some forty times as high as this.
  const floor = 1 / (data.parameters * Math.max(...portraits.map(({ grid }) => grid.at(-1) - grid[0])));
  return { traces: portraits.map((portrait, i) => ({
    ...line(portrait.grid, portrait.values.map((value) => Math.max(value, floor)), `step ${portrait.step}`, inks()[i], { width: 1.8 }),
    fill: "tozeroy", fillcolor: faded(inks()[i], 0.18),
    hovertemplate: `<b>step ${portrait.step}</b> density %{y:.3g}<br>at %{x:.4g}<extra></extra>`,
  })), ...legend,
    xaxis: axis({ title: { text: "eigenvalue of the Hessian" } }),
    yaxis: axis({ title: { text: "density" }, type: "log", dtick: 1, exponentformat: "power", range: [Math.log10(floor), Math.log10(2 * top)] }) };
}

function layers() {
  const names = Object.keys(portraits[0].layers), last = portraits.length - 1, traces = [];
  if (last)
    traces.push({ x: names.flatMap((name) => [portraits[0].layers[name], portraits[last].layers[name], null]), y: names.flatMap((name) => [name, name, null]),
      mode: "lines", line: { color: colour("--line"), width: 4 }, hoverinfo: "skip", showlegend: false });
  portraits.forEach((portrait, i) => traces.push({ x: names.map((name) => portrait.layers[name]), y: names, mode: "markers", name: `step ${portrait.step}`,
    marker: { size: 11, color: inks()[i] }, hovertemplate: `<b>%{y}</b> %{x:.4g}<br>step ${portrait.step}<extra></extra>` }));
  const values = portraits.flatMap((portrait) => Object.values(portrait.layers));
  return { traces, ...legend, margin: { l: 58, r: 16, t: 8, b: 44 },
    xaxis: magnitude(values, "largest eigenvalue of the block"), yaxis: axis({ type: "category", autorange: "reversed" }) };
}

const table = (columns, rows) => [columns, ...rows];
figure("edge-figure", compared ? "Sharpness against the stability threshold" : "Largest eigenvalue of the Hessian", edge,
  () => table(["step", "sharpness", "threshold", "batch_sharpness"], probes.map((probe, i) =>
    [probe.step, compared ? edgeOf("sharpness")[i] : probe.eigenvalues[0], edgeOf("threshold")[i], probe.batch_sharpness])));
if (compared)
  figure("edge-figures", "Distance from the edge", ratio, () => table(["step", "ratio", "residual"], probes.map((probe, i) => [probe.step, edgeOf("ratio")[i], edgeOf("residual")[i]])));
figure("edge-figures", "Loss", loss, () => table(["step", "mini_batch", "probe_batch"],
  [null, ...data.losses].map((value, i) => [i, value, probes.find((probe) => probe.step === i)?.loss ?? null])));
figure("eigenvalue-figure", "Largest eigenvalues of the Hessian", eigenvalues, () => table(["step", "rank", "eigenvalue", "residual"],
  probes.flatMap((probe) => probe.eigenvalues.map((value, i) => [probe.step, i + 1, value, probe.residuals[i]]))));
if (portraits.length) {
  figure("density-figure", "Spectral density", density, () => table(["step", "eigenvalue", "density"],
    portraits.flatMap((portrait) => portrait.grid.map((x, i) => [portrait.step, x, portrait.values[i]]))));
  figure("layer-figure", "Largest eigenvalue of each layer", layers, () => table(["step", "layer", "eigenvalue"],
    portraits.flatMap((portrait) => Object.entries(portrait.layers).map(([name, value]) => [portrait.step, name, value]))));
  document.querySelector("#layer-figure .plot").style.height = `${110 + 26 * Object.keys(portraits[0].layers).length}px`;
}
