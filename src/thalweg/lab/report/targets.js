/* Time to targets: who has arrived when, how many times faster, within which factor of the fastest. */
const MOST_RATIO = 16; // a larger speed-up, or an infinite one, stands at the frame's edge

const level = (task) => Math.min(Number(chosen("level")), task.targets.length) - 1;

function reached(task) {
  const clock = chosen("clock"), traces = seen(task.reached).filter((row) => row[clock].length).map((row) => {
    const steps = row[clock][level(task)], { label } = style[row.optimizer];
    return { x: steps.x, y: steps.y.map((part) => 100 * part), mode: "lines", line: line(row.optimizer, { shape: "hv" }),
      hovertemplate: `<b>${label}</b> %{y:.0f} % of the seeds<br>by %{x:.4g} ${X[clock]}<extra></extra>` };
  });
  return { traces, annotations: [{ xref: "paper", yref: "paper", x: 0.01, y: 1, xanchor: "left", yanchor: "top", showarrow: false, text: `target ${+task.targets[level(task)].toPrecision(4)} ${safe(task.unit)}` }],
    xaxis: axis({ title: { text: X[clock] }, rangemode: "tozero" }), yaxis: axis({ title: { text: "seeds that have reached it, %" }, range: [-3, 112], tickvals: [0, 25, 50, 75, 100] }) };
}

const reachedRows = (task) => [["optimizer", "measure", "target", "time", "share"], ...task.reached.flatMap((row) => Object.keys(X).flatMap((measure) =>
  row[measure].flatMap((steps, k) => steps.x.map((x, i) => [row.optimizer, measure, task.targets[k], x, steps.y[i]]))))];

/* Ratios are 0 where the candidate missed, null where the reference did: both stand at an edge. */
function speedUps(task) {
  const reference = chosen("reference"), rows = seen(task.speed_ups).filter((row) => row.reference === reference && row.measure === chosen("clock")).reverse(), traces = [];
  const finite = rows.flatMap((row) => [row.low, row.high, ...row.seeds]).filter((ratio) => ratio > 0), most = Math.min(MOST_RATIO, 1.25 * Math.max(1.6, ...finite, ...finite.map((ratio) => 1 / ratio)));
  const at = (ratio) => Math.min(most, Math.max(1 / most, ratio ?? Infinity)), off = (ratio) => at(ratio) !== ratio;
  const said = (ratio) => (ratio === null ? "∞" : ratio.toPrecision(3));
  rows.forEach((row, i) => {
    const { colour: ink, label } = style[row.optimizer], ends = [row.low, row.high];
    traces.push({ x: row.seeds.map(at), y: row.seeds.map((_, k) => i - 0.25 + (0.5 * (k + 0.5)) / row.seeds.length), mode: "markers", marker: { color: faded(ink, 0.4), size: 6 }, text: row.seeds.map(said),
      hovertemplate: `<b>${label}</b> one seed: %{text} ×<extra></extra>` });
    traces.push({ x: ends.map(at), y: [i, i], mode: "lines+markers", line: { color: ink, width: 3 }, hoverinfo: "skip",
      marker: { color: ink, size: ends.map((end) => (off(end) ? 14 : 0)), symbol: ends.map((end) => (at(end) === most ? "triangle-right" : "triangle-left")) } });
    traces.push({ x: [at(row.middle)], y: [i], mode: "markers", marker: { color: ink, size: 12, symbol: "diamond", line: { color: colour("--card"), width: 1.5 } },
      hovertemplate: `<b>${label}</b> ${said(row.middle)} × [${said(row.low)}, ${said(row.high)}], ${(100 * row.confidence).toFixed(1)} %<br>${row.verdict}<extra></extra>` });
  });
  const steps = most > 2.2 ? [0.125, 0.25, 0.5, 1, 2, 4, 8] : [0.5, 0.67, 0.8, 1, 1.25, 1.5, 2], ticks = steps.filter((ratio) => ratio < most && ratio > 1 / most);
  return { traces, shapes: [{ type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: colour("--soft"), width: 1, dash: "dot" } }],
    xaxis: axis({ type: "log", range: [-1.06 * Math.log10(most), 1.06 * Math.log10(most)], tickvals: ticks, ticktext: ticks.map((ratio) => `${ratio}×`), title: { text: `times faster than ${safe(reference)}` } }),
    yaxis: lanes(rows), needs: room(rows) };
}

const speedUpRows = (task) => [["optimizer", "reference", "measure", "speed-up", "low", "high", "confidence", "verdict", "failures"], ...task.speed_ups.map((row) =>
  [row.optimizer, row.reference, row.measure, row.middle ?? "Infinity", row.low ?? "Infinity", row.high ?? "Infinity", row.confidence, row.verdict, row.failures])];

function profiles() {
  const traces = seen(data.profiles[chosen("clock")]).map((row) => ({ x: row.tau, y: row.part.map((part) => 100 * part), mode: "lines", line: line(row.optimizer, { shape: "hv" }),
    hovertemplate: `<b>${style[row.optimizer].label}</b> %{y:.0f} % within %{x:.3g} × the fastest<br>area ${row.area.toFixed(2)}<extra></extra>` }));
  return { traces, xaxis: axis({ type: "log", range: [-0.01, Math.log10(4.05)], tickvals: [1, 1.25, 1.5, 2, 3, 4], ticktext: ["1", "1.25", "1.5", "2", "3", "4"], title: { text: "τ: within this factor of the fastest" } }),
    yaxis: axis({ title: { text: "targets reached, %" }, range: [-3, 103] }) };
}

const profileRows = () => [["optimizer", "measure", "tau", "part"], ...Object.entries(data.profiles).flatMap(([measure, rows]) =>
  rows.flatMap((row) => row.tau.map((tau, i) => [row.optimizer, measure, tau, row.part[i]])))];
