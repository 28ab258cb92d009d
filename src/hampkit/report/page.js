"use strict";
// Draws the charts and runs the buttons. State is on the page: aria-pressed of the buttons, data-theme of <html>.
(function () {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
    showSendToCloud: false, // Plotly's default is a button that uploads the data
    plotlyServerURL: "",
    typesetMath: false,
  };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";

  // light-dark() is resolved only where a property is used, so a colour is read from an element that uses it.
  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = "var(" + name + ")";
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  function themed(layout) {
    layout.font = Object.assign({}, layout.font, { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily });
    layout.hoverlabel = { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") }, namelength: -1 };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") };
    for (const axis of ["xaxis", "yaxis"]) layout[axis].title.font.color = colour("--muted");
    if (touch) layout.dragmode = false; // else a finger that scrolls the page draws a zoom box
    return layout;
  }

  // The layout for a chart of so many pixels on paper, in the size of the text there.
  function onPaper(layout, [width, height]) {
    layout.font.size = 8.5;
    for (const axis of ["xaxis", "yaxis"]) layout[axis].title.font.size = 8.5;
    return Object.assign(layout, { width, height, margin: Object.assign({}, layout.margin, { t: 6 }) });
  }

  function draw(id, paper) {
    const chart = data.charts[id];
    const view = all('[data-view][data-group="' + chart.group + '"]').find(pressed);
    const figure = structuredClone(chart.views[view ? view.dataset.view : Object.keys(chart.views)[0]]);
    const off = all('[data-trace][data-group="' + chart.group + '"]').filter((b) => !pressed(b)).map((b) => b.dataset.trace);
    for (const trace of figure.data) trace.visible = !off.includes(trace.meta);
    const layout = themed(figure.layout);
    return Plotly.react(id, figure.data, paper ? onPaper(layout, paper) : layout, config);
  }

  async function drawAll(group) {
    for (const id of Object.keys(data.charts)) {
      if (group && data.charts[id].group !== group) continue;
      try {
        await draw(id);
      } catch (error) {
        console.error("chart " + id + ": " + error); // the other charts are drawn all the same
      }
      await new Promise((resolve) => setTimeout(resolve, 0)); // lets the page answer between two charts
    }
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn || 0) + 1);
  }

  function setTheme(name, keep) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    choose(all("[data-theme][data-group]"), (button) => button.dataset.theme === name);
    try {
      if (keep) localStorage.setItem("hampkit-theme", name);
    } catch { /* a page opened from a file may have no storage */ }
  }

  function storedTheme() {
    try {
      return localStorage.getItem("hampkit-theme") || "auto";
    } catch {
      return "auto";
    }
  }

  function choose(buttons, is) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(is(button)));
  }

  function setLevel(name) {
    for (const cell of all(".results [data-level]")) cell.hidden = cell.dataset.level !== name;
    for (const place of all("[data-level-name]")) place.textContent = name;
  }

  function download(button) {
    const what = data[button.dataset.download];
    const text = typeof what === "string" ? what : JSON.stringify(what, null, 2) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function press(button) {
    const { theme, choose: level, view, trace, group } = button.dataset;
    if (button.dataset.download) return download(button);
    if (trace) button.setAttribute("aria-pressed", String(!pressed(button)));
    else choose(all('button[data-group="' + group + '"]:not([data-trace])'), (other) => other === button);
    if (level) return setLevel(level);
    if (theme) setTheme(theme, true);
    if (theme || view || trace) drawAll(theme ? null : group);
  }

  function openTarget() {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch { /* not a name of ours */ }
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  }

  for (const button of all("button")) button.addEventListener("click", () => press(button));
  window.addEventListener("hashchange", openTarget);
  dark.addEventListener("change", () => drawAll());
  let before = { closed: [], theme: "auto" };
  // pixels of a sheet of A4 with the margins of style.css: charts are drawn before the page is laid out for paper
  const sizes = { tall: [540, 250], wide: [540, 150], low: [262, 106], chart: [262, 158] };
  window.addEventListener("beforeprint", () => {
    before = { closed: all("details:not([open])"), theme: document.documentElement.dataset.theme || "auto" };
    for (const part of before.closed) part.open = true;
    setTheme("light", false);
    for (const id of Object.keys(data.charts)) {
      const classes = document.getElementById(id).classList;
      draw(id, sizes[["tall", "wide", "low"].find((name) => classes.contains(name)) || "chart"]);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const part of before.closed) part.open = false;
    setTheme(before.theme, false);
    drawAll();
  });
  setTheme(storedTheme(), false);
  openTarget();
  drawAll();
})();
