/* One panel a task and plain optimizer: diverged runs above, loss in the middle, usable widths below. */
const INKS = ["#7a869a", "#2f80ed", "#e5793a", "#12a594", "#8e5bd0", "#d6408b"]; // the plain one first
const LANE = 0.052; // height of an optimizer's row, above and below, in parts of the figure
const MOVE = 0.035; // seeds and optimizers stand side by side, so many decades apart

const beside = (lr, i, count) => lr * 10 ** (MOVE * (i - (count - 1) / 2));
const finite = (values) => values.filter((value) => value !== null);

function losses(panel) {
  const { sweeps } = panel, names = sweeps.map((sweep) => sweep.optimizer), traces = [];
  const all = finite(sweeps.flatMap((sweep) => sweep.losses.flat()));
  const low = Math.min(...all, panel.untrained ?? Infinity), top = Math.max(...all.filter((loss) => loss <= 4 * (panel.untrained ?? Infinity)), panel.untrained ?? 0);
  sweeps.forEach((sweep, i) => {
    const ink = INKS[i % INKS.length], { optimizer } = sweep, lane = { yaxis: "y2", x: [], y: [], hoverinfo: "skip" };
    const at = (k) => `${sweep.lr[k].toPrecision(3)} (best × ${+sweep.multiple[k].toPrecision(3)})`;
    const points = sweep.losses.flatMap((found, k) => found.map((loss, seed) => ({ k, loss, seed: sweep.seeds[k][seed] }))).filter(({ loss }) => loss !== null);
    traces.push({ x: points.map(({ k }) => beside(sweep.lr[k], i, sweeps.length)), y: points.map(({ loss }) => loss), mode: "markers", marker: { color: faded(ink, 0.45), size: 5 },
      text: points.map(({ k, seed }) => `seed ${seed}<br>lr ${at(k)}`), hovertemplate: `<b>${optimizer}</b> %{y:.4g}, %{text}<extra></extra>` });
    traces.push({ x: sweep.lr, y: sweep.median, mode: "lines", line: { color: ink, width: i ? 2.8 : 2 }, connectgaps: false,
      text: sweep.lr.map((_, k) => at(k) + (sweep.accuracy[k] === null ? "" : `<br>accuracy ${sweep.accuracy[k].toFixed(1)} %`)),
      hovertemplate: `<b>${optimizer}</b> median %{y:.4g}<br>lr %{text}<extra></extra>` });
    const lost = sweep.diverged.map((_, k) => k).filter((k) => sweep.diverged[k]);
    traces.push({ yaxis: "y3", x: lost.map((k) => sweep.lr[k]), y: lost.map(() => optimizer), mode: "markers+text", marker: { symbol: "x", size: 8, color: colour("--bad") },
      text: lost.map((k) => (sweep.diverged[k] < sweep.losses[k].length ? ` ${sweep.diverged[k]}/${sweep.losses[k].length}` : "")), textposition: "middle right", textfont: { size: 10 },
      customdata: lost.map((k) => `${sweep.diverged[k]} of ${sweep.losses[k].length} runs diverged<br>lr ${at(k)}`), hovertemplate: `<b>${optimizer}</b> %{customdata}<extra></extra>` });
    traces.push({ ...lane, yaxis: "y3", y: [optimizer], x: [null] }, { ...lane, y: [optimizer], x: [null] }); // every lane is there, in order
    if (sweep.usable) traces.push({ ...lane, x: sweep.usable, y: [optimizer, optimizer], mode: "lines", line: { color: ink, width: 9 } });
  });
  const lanes = LANE * sweeps.length, line = { type: "line", line: { color: colour("--soft"), width: 1 } };
  const category = { type: "category", categoryorder: "array", categoryarray: [...names].reverse(), showgrid: false, range: [-0.6, names.length - 0.4] };
  return { traces, margin: { l: 58, r: 78, t: 8, b: 44 },
    annotations: sweeps.map((sweep) => ({ xref: "paper", x: 1, xanchor: "left", yref: "y2", y: sweep.optimizer, showarrow: false, xshift: 8,
      text: sweep.width === "none" ? "none" : `${sweep.width} dec.`, font: { size: 11.5 } })).concat(
      { xref: "paper", yref: "y3", x: 1, xanchor: "left", xshift: 8, y: names[0], showarrow: false, text: "diverged", font: { size: 11.5, color: colour("--bad") } },
      panel.untrained === null ? [] : { xref: "paper", yref: "y", x: 1, xanchor: "left", xshift: 8, y: Math.log10(panel.untrained), showarrow: false, text: "untrained", font: { size: 11.5 } }),
    shapes: [
      ...(panel.best === null ? [] : [{ ...line, x0: panel.best, x1: panel.best, yref: "paper", y0: 0, y1: 1, line: { ...line.line, dash: "dot" } }]),
      ...(panel.untrained === null ? [] : [{ ...line, xref: "paper", x0: 0, x1: 1, y0: panel.untrained, y1: panel.untrained, line: { ...line.line, dash: "dash" } }]),
    ],
    xaxis: axis({ type: "log", title: { text: "learning rate" }, anchor: "y2", dtick: 1, exponentformat: "power" }),
    yaxis: axis({ type: "log", title: { text: "validation loss" }, domain: [lanes + 0.05, 1 - lanes - 0.03], ...(all.length ? { range: [Math.log10(low) - 0.05, Math.log10(top) + 0.1] } : {}), dtick: Math.log10(top / low) > 1.5 ? 1 : "D2" }),
    yaxis2: axis({ ...category, domain: [0, lanes] }),
    yaxis3: axis({ ...category, domain: [1 - lanes, 1] }) };
}

const lossRows = (panel) => [["optimizer", "lr", "multiple", "seed", "loss"], ...panel.sweeps.flatMap((sweep) => sweep.losses.flatMap((found, k) =>
  found.map((loss, i) => [sweep.optimizer, sweep.lr[k], sweep.multiple[k], sweep.seeds[k][i], loss])))];

for (const panel of data) figure("sweep-figures", `${panel.task}, ${panel.plain}`, () => losses(panel), () => lossRows(panel));
render();
