/* One panel a task and plain optimizer: diverged runs above, the loss, usable learning rates below; all over the learning rate. */
const INKS = ["#7a869a", "#2f80ed", "#e5793a", "#12a594", "#8e5bd0", "#d6408b"]; // the plain optimizer first
const LANE = 0.055; // height of an optimizer's row above and below, as part of the figure
const BESIDE = 0.04; // decades between the seeds of two optimizers, which have the same learning rates
const OFF = 4; // a loss so many times the untrained network's leaves the frame

const finite = (values) => values.filter((value) => value !== null);
const digits = (value) => String(+value.toPrecision(3));

function ticks(low, high) {
  const decades = Array.from({ length: 14 }, (_, i) => 10 ** (i - 8)), steps = high / low > 50 ? [1] : high / low > 5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const found = decades.flatMap((decade) => steps.map((step) => step * decade)).filter((value) => value >= 0.9 * low && value <= 1.1 * high);
  return { tickvals: found, ticktext: found.map(digits) };
}

function losses(panel) {
  const { sweeps, untrained, best } = panel, traces = [];
  const all = finite(sweeps.flatMap((sweep) => sweep.losses.flat())), top = OFF * (untrained ?? Infinity);
  const framed = all.filter((loss) => loss <= top).concat(untrained ?? []), low = Math.min(...framed), high = Math.max(...framed), rates = sweeps[0].lr;
  sweeps.forEach((sweep, i) => {
    const ink = INKS[i % INKS.length], { optimizer } = sweep, row = sweeps.length - 1 - i, side = 10 ** (BESIDE * (i - (sweeps.length - 1) / 2));
    const at = sweep.lr.map((lr, k) => `lr ${digits(lr)}, ${digits(sweep.multiple[k])} × best`);
    const runs = sweep.losses.flatMap((found, k) => found.map((loss, seed) => ({ k, loss, seed: sweep.seeds[k][seed] }))).filter((run) => run.loss !== null);
    traces.push({ x: runs.map((run) => sweep.lr[run.k] * side), y: runs.map((run) => run.loss), mode: "markers", marker: { color: faded(ink, 0.45), size: 5 },
      text: runs.map((run) => `seed ${run.seed}<br>${at[run.k]}`), hovertemplate: `<b>${optimizer}</b> %{y:.4g}, %{text}<extra></extra>` });
    traces.push({ x: sweep.lr, y: sweep.median, mode: "lines+markers", line: { color: ink, width: i ? 2.8 : 2 }, marker: { color: ink, size: 4 }, connectgaps: false,
      text: at.map((where, k) => where + (sweep.accuracy[k] === null ? "" : `<br>median accuracy ${sweep.accuracy[k].toFixed(1)} %`)),
      hovertemplate: `<b>${optimizer}</b> median %{y:.4g}<br>%{text}<extra></extra>` });
    const lost = at.map((_, k) => k).filter((k) => sweep.diverged[k]), part = (k) => `${sweep.diverged[k]}/${sweep.losses[k].length}`;
    traces.push({ yaxis: "y3", x: lost.map((k) => sweep.lr[k]), y: lost.map(() => row), mode: "markers+text", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: lost.map((k) => (sweep.diverged[k] < sweep.losses[k].length ? ` ${part(k)}` : "")), textposition: "middle right", textfont: { size: 10.5 },
      customdata: lost.map((k) => `${part(k)} diverged<br>${at[k]}`), hovertemplate: `<b>${optimizer}</b> %{customdata}<extra></extra>` });
    if (sweep.usable) traces.push({ yaxis: "y2", x: sweep.usable, y: [row, row], mode: "lines", line: { color: ink, width: 9 },
      hovertemplate: `<b>${optimizer}</b> usable: ${sweep.usable.map(digits).join(" … ")}<extra></extra>` });
  });
  const lanes = LANE * sweeps.length, line = { color: colour("--soft"), width: 1 };
  const named = { showgrid: false, range: [-0.6, sweeps.length - 0.4], tickvals: sweeps.map((_, i) => sweeps.length - 1 - i),
    ticktext: sweeps.map((sweep, i) => `<span style="color:${INKS[i % INKS.length]}"><b>${sweep.optimizer}</b></span>`), tickfont: { size: 11.5 } };
  const beside = (yref, y, text, extra) => ({ xref: "paper", x: 1, xanchor: "left", xshift: 8, yref, y, text, showarrow: false, font: { size: 11.5 }, ...extra });
  return { traces, margin: { l: 58, r: 82, t: 8, b: 44 },
    annotations: [
      ...sweeps.map((sweep, i) => beside("y2", sweeps.length - 1 - i, sweep.width === "none" ? "none" : `${sweep.width} dec.`)),
      beside("y3", (sweeps.length - 1) / 2, "diverged", { font: { size: 11.5, color: colour("--bad") } }),
      ...(untrained === null ? [] : [beside("y", Math.log10(untrained), "untrained")]),
    ],
    shapes: [
      ...(best === null ? [] : [{ type: "line", x0: best, x1: best, yref: "paper", y0: 0, y1: 1, line: { ...line, dash: "dot" } }]),
      ...(untrained === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: untrained, y1: untrained, line: { ...line, dash: "dash" } }]),
    ],
    xaxis: axis({ type: "log", title: { text: "learning rate" }, ...(rates.length ? { range: [Math.log10(rates[0]) - 0.2, Math.log10(rates.at(-1)) + 0.45] } : {}), anchor: "y2", dtick: 1, exponentformat: "power" }),
    yaxis: axis({ type: "log", title: { text: "validation loss" }, domain: [lanes + 0.05, 0.95 - lanes],
      ...(framed.length ? { range: [Math.log10(low) - 0.05, Math.log10(high) + 0.08], ...ticks(low, high) } : {}) }),
    yaxis2: axis({ ...named, domain: [0, lanes] }),
    yaxis3: axis({ ...named, domain: [1 - lanes, 1] }) };
}

const lossRows = (panel) => [["optimizer", "lr", "multiple", "seed", "loss"], ...panel.sweeps.flatMap((sweep) => sweep.losses.flatMap((found, k) =>
  found.map((loss, i) => [sweep.optimizer, sweep.lr[k], sweep.multiple[k], sweep.seeds[k][i], loss])))];

for (const panel of data) figure("sweep-figures", `${panel.task}, ${panel.plain}`, () => losses(panel), () => lossRows(panel));
render();
