// One view: its title, one line of what it says, the figure or text, and "copy as code".
// plotly.js comes from the kernel, once per page: nothing is fetched from anywhere.

const AGAIN = 10000; // ms after which another pane asks too: the one that did may be gone, or its kernel

function plotly(model) {
  const page = globalThis;
  if (!page.interpPlotly) {
    page.interpPlotly = { asked: -Infinity, here: false };
    page.interpPlotly.promise = new Promise((resolve) => { page.interpPlotly.resolve = resolve; });
    page.interpPlotly.promise.catch(() => { page.interpPlotly = undefined; });
  }
  const wanted = page.interpPlotly;
  if (!wanted.here && performance.now() - wanted.asked > AGAIN) {
    wanted.asked = performance.now();
    model.on("msg:custom", function arrive(message) {
      if (!message || !message.plotly) return;
      model.off("msg:custom", arrive);
      if (!wanted.here) wanted.resolve(run(message.plotly));
      wanted.here = true;
    });
    model.send({ ask: "plotly" });
  }
  return wanted.promise;
}

async function run(source) {
  const before = globalThis.Plotly, url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    await import(url);
    return globalThis.Plotly;
  } finally {
    URL.revokeObjectURL(url);
    if (before) globalThis.Plotly = before;
  }
}

function isDark(el) {
  const [r, g, b] = getComputedStyle(el).color.match(/[0-9.]+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140; // light text stands on a dark page
}

function sized(figure) {
  const clone = JSON.parse(JSON.stringify(figure));
  delete clone.layout.width;
  clone.layout.autosize = true;
  return clone;
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

function say(line, text) {
  line.textContent = text;
  line.hidden = !text;
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
  let chart = null, clicks = 0, asked = 0, width = 0;

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
    const late = setTimeout(() => say(note, "The figure waits for the kernel, which is busy or gone."), 3000);
    try {
      Plotly = await plotly(model);
    } catch (reason) {
      say(error, `the figure cannot be drawn: ${reason.message}`);
      return;
    } finally {
      clearTimeout(late);
      say(note, model.get("note"));
    }
    if (mine !== asked || !el.isConnected && !body.isConnected) return;
    if (!chart) {
      body.innerHTML = "";
      chart = element("div", "interp-pane-chart", body);
    }
    width = el.clientWidth;
    const { data, layout } = sized(figure);
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
    say(said, model.get("said"));
    say(error, model.get("error"));
    say(note, model.get("note"));
    code.textContent = model.get("code");
    copied.hidden = shown.hidden = !code.textContent;
    if (!code.textContent) code.hidden = true;
    el.classList.toggle("interp-pane-busy", model.get("busy"));
    el.classList.toggle("interp-pane-greyed", model.get("greyed"));
  }

  const watch = (names, act) => names.forEach((name) => model.on(`change:${name}`, act));
  watch(["title", "said", "error", "note", "code", "busy", "greyed"], tell);
  watch(["figure", "html"], draw);
  const dress = () => el.classList.toggle("interp-pane-dark", isDark(el)); // the style sheet's other colours
  const themes = new MutationObserver(dress);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  // a tab that opens has no width until it is shown
  const sizes = new ResizeObserver(() => {
    if (!chart || !el.clientWidth || el.clientWidth === width) return;
    width = el.clientWidth;
    plotly(model).then((Plotly) => chart && Plotly.Plots.resize(chart));
  });
  sizes.observe(el);
  tell();
  requestAnimationFrame(() => { dress(); draw(); }); // once the page has given it a place and colours
  return () => {
    themes.disconnect();
    sizes.disconnect();
    if (chart && globalThis.interpPlotly) plotly(model).then((Plotly) => Plotly.purge(chart));
  };
}

export default { render };
