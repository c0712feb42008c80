/* Along training: learning curves, and sharpness against the threshold of stability. */
const SETTLED = 0.3; // the first part of a curve does not widen the axis
const column = { validation: measured, validation_loss: () => "validation loss", train_loss: () => "training loss" };

function curves(task) {
  const x = chosen("x"), y = chosen("y"), everySeed = document.getElementById("seeds").checked, traces = [], rows = seen(task.curves);
  const settled = (line) => line[y].slice(Math.ceil(line[y].length * SETTLED));
  const frame = view(rows.flatMap((row) => [...settled(row.median), ...row.seeds.filter((seed) => seed.state === "ok").flatMap(settled)]),
    y === "validation" ? metric(task) : { title: { text: column[y](task) } });
  for (const { optimizer, seeds, median } of rows) {
    const { colour: ink, label } = style[optimizer];
    for (const seed of everySeed ? seeds : []) {
      traces.push({ x: seed[x], y: seed[y], mode: "lines", line: { color: faded(ink, 0.3), width: 1 }, hoverinfo: "skip" });
      const last = seed[y].findLastIndex((value) => value !== null);
      if (seed.state !== "ok" && last >= 0)
        traces.push({ x: [seed[x][last]], y: [Math.min(Math.max(seed[y][last], frame.low), frame.high)], mode: "markers", marker: { symbol: "x", size: 9, color: colour("--bad") },
          name: label, hovertemplate: `<b>${label}</b> seed ${seed.seed}: ${seed.state}<extra></extra>` });
    }
    traces.push({ x: median[x], y: median[y], mode: "lines", line: line(optimizer, { width: 2.8 }), name: label,
      hovertemplate: `<b>${label}</b> median %{y:.4g}<br>%{x:.4g} ${X[x]}<extra></extra>` });
  }
  return { traces, xaxis: axis({ title: { text: X[x] }, rangemode: "tozero" }), yaxis: frame.axis };
}

function curveRows(task) {
  const names = ["step", "charged", "seconds", "train_loss", "validation_loss", "validation"];
  return [["optimizer", "seed", "state", ...names], ...task.curves.flatMap((curve) => curve.seeds.flatMap((seed) =>
    seed.step.map((_, i) => [curve.optimizer, seed.seed, seed.state, ...names.map((name) => seed[name][i])])))];
}

function sharpness(task) {
  const x = chosen("x"), rows = seen(task.sharpness), positive = (values) => values.map((value) => (value > 0 ? value : null));
  const traces = rows.flatMap((row) => {
    const { label, symbol } = style[row.optimizer];
    return [
      { x: row[x], y: positive(row.threshold), mode: "lines", line: line(row.optimizer, { dash: "dash", width: 1.5 }), hovertemplate: `<b>${label}</b> threshold %{y:.4g}<extra></extra>` },
      { x: row[x], y: positive(row.sharpness), mode: "lines+markers", line: line(row.optimizer, { dash: "solid" }), marker: { color: style[row.optimizer].colour, symbol, size: 7 },
        hovertemplate: `<b>${label}</b> sharpness %{y:.4g}<br>%{x:.4g} ${X[x]}<extra></extra>` },
    ];
  });
  const range = view(rows.flatMap((row) => positive(row.sharpness)), {});
  const known = Number.isFinite(range.low) ? { range: [Math.log10(range.low) - 0.4, Math.log10(range.high) + 1] } : {};
  return { traces, xaxis: axis({ title: { text: X[x] }, rangemode: "tozero" }),
    yaxis: axis({ type: "log", dtick: 1, exponentformat: "power", title: { text: "sharpness (line), threshold (dashes)" }, ...known }) };
}

const sharpnessRows = (task) => [["optimizer", "step", "charged", "seconds", "sharpness", "threshold"], ...task.sharpness.flatMap((row) =>
  row.step.map((_, i) => [row.optimizer, row.step[i], row.charged[i], row.seconds[i], row.sharpness[i], row.threshold[i]]))];
