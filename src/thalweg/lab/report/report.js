/* The figures in their places, the legend and the controls. */
for (const block of data.improvement)
  if (block.rows.length) figure("overall", `P(better than ${block.reference})`, () => improvement(block), () => forestRows(block.rows));
if (data.scores.length) figure("overall", "Score, interquartile mean", score, () => forestRows(data.scores));
if (data.profiles.charged.length) figure("profile-figure", "Performance profile, all tasks", profiles, profileRows);
for (const task of data.tasks) {
  figure("curve-figures", task.name, () => curves(task), () => curveRows(task));
  if (task.targets.length) figure("reached-figures", `${task.name}: time to target`, () => reached(task), () => reachedRows(task));
  if (task.speed_ups.length) figure("speed-up-figures", `${task.name}: speed-up`, () => speedUps(task), () => speedUpRows(task));
  figure("final-figures", task.name, () => finals(task), () => finalRows(task));
  if (document.getElementById("sensitivity-figures")) figure("sensitivity-figures", task.name, () => sensitivity(task), () => sensitivityRows(task));
  if (document.getElementById("best-of-figures")) figure("best-of-figures", task.name, () => bestOf(task), () => bestOfRows(task));
  if (task.sharpness.length) figure("sharpness-figures", task.name, () => sharpness(task), () => sharpnessRows(task));
}
for (const optimizer of data.optimizers) {
  const button = add("button", document.getElementById("legend"), optimizer.name, { type: "button", "aria-pressed": "true" });
  button.style.setProperty("--colour", optimizer.colour);
  button.onclick = () => {
    shown[optimizer.name] = !shown[optimizer.name];
    button.setAttribute("aria-pressed", String(shown[optimizer.name]));
    render();
  };
}
for (const input of document.querySelectorAll(".controls input")) input.addEventListener("change", render);
render();
