"use strict";
// Draws test accuracy against the worst attack's AUC, a point per defense with both intervals.
(function () {
  const points = JSON.parse(document.getElementById("page-data").textContent);
  const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star"];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", typesetMath: false };

  function bars(value, low, high) {
    return { type: "data", symmetric: false, array: [high - value], arrayminus: [value - low], thickness: 1, width: 3 };
  }

  function draw() {
    const ink = getComputedStyle(document.body).color;
    const grid = "rgba(128,138,150,0.22)";
    const traces = points.map((p, i) => ({
      type: "scatter", mode: "markers", name: p.defense, x: [p.auc.value], y: [p.accuracy], // names at fifteen points cover each other
      marker: { color: colours[i % colours.length], symbol: symbols[Math.floor(i / colours.length) % symbols.length], size: 9 },
      error_x: Object.assign(bars(p.auc.value, p.auc.low, p.auc.high), { color: colours[i % colours.length] }),
      error_y: Object.assign(bars(p.accuracy, p.accuracy_low, p.accuracy_high), { color: colours[i % colours.length] }),
      hovertemplate: p.defense + "<br>AUC %{x:.3f} (" + p.attack + ")<br>test accuracy %{y:.1%}<extra></extra>",
    }));
    const axis = (title, extra) => Object.assign({ title: { text: title }, gridcolor: grid, zeroline: false }, extra);
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink }, showlegend: true,
      margin: { t: 20, r: 20, b: 50, l: 60 },
      xaxis: axis("AUC of the worst attack (0.5 is guessing)"), yaxis: axis("test accuracy", { tickformat: ".0%" }),
    };
    return Plotly.react("tradeoff", traces, layout, config);
  }

  draw().then(() => { document.documentElement.dataset.drawn = "1"; });
  dark.addEventListener("change", draw);
})();
