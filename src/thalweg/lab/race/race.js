/* An arrow from the head of a track. */
function arrow(track, x, y, extra) {
  const i = made(track) - 1;
  return { x: [track.x[i], track.x[i] + x[i]], y: [track.y[i], track.y[i] + y[i]], mode: "lines+markers", hoverinfo: "skip", opacity: x[i] || y[i] ? 1 : 0,
    line: { color: track.colour, width: 2, ...extra.line }, marker: { color: track.colour, size: [0, 11], angleref: "previous", line: { width: 0 }, ...extra.marker } };
}

const frame = (extra) => ({ margin: { l: 36, r: 8, t: 8, b: 28 },
  xaxis: axis({ range: data.window[0], showgrid: false, automargin: false, fixedrange: true, constrain: "domain", ...extra }),
  yaxis: axis({ range: data.window[1], showgrid: false, automargin: false, fixedrange: true, scaleanchor: "x", constrain: "domain", ...extra }) });

function surface() {
  const traces = [];
  traces.push({ x: data.minima.map((minimum) => minimum[0]), y: data.minima.map((minimum) => minimum[1]), mode: "markers", marker: { symbol: "star", size: 14, color: colour("--ink") },
    hovertemplate: "minimum (%{x}, %{y})<extra></extra>" });
  traces.push({ x: [data.start[0]], y: [data.start[1]], mode: "markers", marker: { size: 8, color: colour("--ink") }, hovertemplate: "start (%{x}, %{y})<extra></extra>" });
  for (const track of visible()) traces.push(trail(track, track.step.map((step, i) => `step ${step}<br>f − f* = ${track.height[i]?.toPrecision(3)}`))[0]);
  for (const track of visible()) {
    if (track.mx) traces.push(arrow(track, track.mx, track.my, { line: { dash: "dot" }, marker: { symbol: "arrow-open", line: { width: 1.5, color: track.colour } } }));
    traces.push(arrow(track, track.dx, track.dy, { marker: { symbol: "arrow" } }));
    traces.push(trail(track)[1]);
  }
  return { traces, ...frame() };
}

function curve() {
  const low = Math.max(1e-16, Math.min(...data.tracks.flatMap((track) => track.height.filter((height) => height > 0))));
  const high = Math.max(...data.tracks.map((track) => track.height[0]));
  const traces = visible().flatMap((track) => {
    const count = made(track), height = track.height.map((value) => (value === null ? null : Math.max(value, low)));
    const line = { x: track.charged, y: height, mode: "lines", line: { color: faded(track.colour, 0.3), width: 1.2 }, hoverinfo: "skip" };
    return [line, { ...line, x: track.charged.slice(0, count), y: height.slice(0, count), line: { color: track.colour, width: 2.2 }, hoverinfo: "all",
      hovertemplate: `<b>${track.name}</b> %{y:.3g}<br>%{x:.4g} gradient-equivalents<extra></extra>` }];
  });
  const ends = [low / 2, 10 * high];
  traces.push({ x: [used(), used()], y: ends, mode: "lines", hoverinfo: "skip", line: { color: colour("--soft"), width: 1, dash: "dot" } });
  return { traces, shapes: [{ type: "line", line: { color: colour("--soft"), width: 1, dash: "dot" }, xref: "paper", x0: 0, x1: 1, y0: data.arrived, y1: data.arrived }],
    xaxis: axis({ title: { text: "gradient-equivalents" }, range: [0, data.budget] }),
    yaxis: axis({ title: { text: "f − f*" }, type: "log", exponentformat: "power", dtick: ends[1] > 1e4 * ends[0] ? null : "D2", range: ends.map(Math.log10) }) };
}

slider.max = Math.min(data.budget, 1000);
data.said = `{} of ${data.budget} gradients`;
const columns = ["step", "charged", "x", "y", "height"];
const table = (names) => [["optimizer", ...names], ...data.tracks.flatMap((track) => track.step.map((_, i) => [track.name, ...names.map((name) => track[name][i])]))];
figure("surface", "Where they are", surface, () => table(columns));
ground("surface", () => ({ traces: [contour(data.contours, {})], ...frame({ visible: false }) }));
figure("curve", "How high they are", curve, () => table(columns));
slider.value = slider.max;
render();
move(slider.max);
