// One view: its title, one line of what it says, the figure or text, and "copy as code".
// plotly.js comes from the kernel, once per page: nothing is fetched from anywhere.

const INK = {
  "#222222": "var-ink", "#6b6b6b": "#a8a8a8", "#ececec": "#3a3a3a", "#c9c9c9": "#5c5c5c", "#f4f4f4": "#333333",
};

function plotly(model) {
  const page = globalThis;
  if (!page.interpPlotly) {
    page.interpPlotly = new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("no kernel answers")), 60000);
      model.on("msg:custom", async function arrive(message) {
        if (!message || !message.plotly) return;
        model.off("msg:custom", arrive);
        clearTimeout(late);
        const before = page.Plotly;
        const url = URL.createObjectURL(new Blob([message.plotly], { type: "text/javascript" }));
        try {
          await import(url);
          resolve(page.Plotly);
        } catch (error) {
          reject(error);
        } finally {
          URL.revokeObjectURL(url);
          if (before) page.Plotly = before;
        }
      });
      model.send({ ask: "plotly" });
    });
    page.interpPlotly.catch(() => { page.interpPlotly = undefined; });
  }
  return page.interpPlotly;
}

function parts(colour) {
  return (colour.match(/[0-9.]+/g) || [0, 0, 0]).map(Number);
}

function isDark(el) {
  const [r, g, b] = parts(getComputedStyle(el).color);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140; // light text stands on a dark page
}

function background(el) {
  for (let at = el; at; at = at.parentElement) {
    const found = getComputedStyle(at).backgroundColor, [, , , alpha = 1] = parts(found);
    if (found && found !== "transparent" && alpha > 0) return found;
  }
  return "#111111";
}

// the figure's own greys and its white paper, in the colours of a dark page
function recolour(value, ink, paper) {
  if (typeof value === "string") {
    const name = value.toLowerCase();
    if (name === "white" || name === "#ffffff") return paper;
    return INK[name] === "var-ink" ? ink : INK[name] || value;
  }
  if (Array.isArray(value)) return value.map((one) => recolour(one, ink, paper));
  if (value && typeof value === "object" && !value.bdata) {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, recolour(v, ink, paper)]));
  }
  return value;
}

function dressed(figure, el) {
  const clone = JSON.parse(JSON.stringify(figure));
  const layout = clone.layout || {};
  delete layout.width;
  layout.autosize = true;
  const ink = getComputedStyle(el).color, paper = background(el);
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: paper, font: { color: ink } };
  if (!isDark(el)) return { data: clone.data, layout };
  const data = clone.data.map((trace) =>
    trace.type === "scatter" && trace.line ? { ...trace, line: recolour(trace.line, ink, paper) } : trace);
  return { data, layout: recolour(layout, ink, paper) };
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function element(name, className, parent) {
  const found = document.createElement(name);
  found.className = className;
  parent.append(found);
  return found;
}

function render({ model, el }) {
  el.classList.add("interp-pane");
  const head = element("div", "interp-pane-head", el);
  const title = element("span", "interp-pane-title", head);
  const copied = element("button", "interp-pane-copy", head);
  const shown = element("button", "interp-pane-show", head);
  copied.type = shown.type = "button";
  copied.textContent = "Copy as code";
  shown.textContent = "Code";
  shown.title = "show the code of this view";
  const said = element("div", "interp-pane-said", el);
  const error = element("div", "interp-pane-error", el);
  const note = element("div", "interp-pane-note", el);
  const body = element("div", "interp-pane-body", el);
  const code = element("pre", "interp-pane-code", el);
  code.hidden = true;
  let chart = null, clicks = 0, asked = 0;

  copied.addEventListener("click", async () => {
    await copy(model.get("code"));
    copied.textContent = "Copied";
    setTimeout(() => { copied.textContent = "Copy as code"; }, 1200);
  });
  shown.addEventListener("click", () => { code.hidden = !code.hidden; });

  async function draw() {
    const figure = model.get("figure"), html = model.get("html"), mine = ++asked;
    if (!figure) {
      if (chart) (await plotly(model)).purge(chart);
      chart = null;
      if (mine === asked) body.innerHTML = html; // escaped where it was made
      return;
    }
    let Plotly;
    try {
      Plotly = await plotly(model);
    } catch (reason) {
      error.textContent = `the figure cannot be drawn: ${reason.message}`;
      error.hidden = false;
      return;
    }
    if (mine !== asked || !el.isConnected && !body.isConnected) return;
    if (!chart) {
      body.innerHTML = "";
      chart = element("div", "interp-pane-chart", body);
    }
    const { data, layout } = dressed(figure, el);
    await Plotly.react(chart, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    if (!chart.heard) {
      chart.heard = true;
      chart.on("plotly_click", ({ points }) => {
        model.set("clicked", { x: points[0].x, y: points[0].y, n: ++clicks });
        model.save_changes();
      });
    }
  }

  function tell() {
    title.textContent = model.get("title");
    said.textContent = model.get("said");
    error.textContent = model.get("error");
    note.textContent = model.get("note");
    code.textContent = model.get("code");
    for (const line of [said, error, note]) line.hidden = !line.textContent;
    copied.hidden = shown.hidden = !code.textContent;
    if (!code.textContent) code.hidden = true;
    el.classList.toggle("interp-pane-busy", model.get("busy"));
    el.classList.toggle("interp-pane-greyed", model.get("greyed"));
  }

  const watch = (names, act) => names.forEach((name) => model.on(`change:${name}`, act));
  watch(["title", "said", "error", "note", "code", "busy", "greyed"], tell);
  watch(["figure", "html"], draw);
  const themes = new MutationObserver(() => { if (model.get("figure")) draw(); });
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  // a tab that opens has no width until it is shown
  const sizes = new ResizeObserver(() => {
    if (chart && el.clientWidth) plotly(model).then((Plotly) => chart && Plotly.Plots.resize(chart));
  });
  sizes.observe(el);
  tell();
  requestAnimationFrame(draw); // once the page has given it a place and colours
  return () => {
    themes.disconnect();
    sizes.disconnect();
    if (chart && globalThis.interpPlotly) plotly(model).then((Plotly) => Plotly.purge(chart));
  };
}

export default { render };
