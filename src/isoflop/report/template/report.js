const charts = JSON.parse(document.getElementById("isoflop-charts").textContent);
const drawn = [];
for (const [id, figure] of Object.entries(charts)) {
  const place = document.getElementById(`chart-${id}`);
  if (!place) continue;
  // A printed page has another width than the window: a view box lets the drawing scale to it.
  const scalable = () => place.querySelectorAll(".main-svg").forEach((svg) =>
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`));
  Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false }).then(scalable);
  place.on("plotly_afterplot", scalable);
  drawn.push(place);
}
// A press on a run in the legend hides it, or shows it, in every chart.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", show);
    for (const place of drawn) {
      const mine = place.data.flatMap((trace, i) => (trace.meta === Number(button.dataset.run) ? [i] : []));
      if (mine.length) Plotly.restyle(place, { visible: show }, mine);
    }
  });
}
