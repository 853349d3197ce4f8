(() => {
const MISSING = 65535, TOP = 65534;

function make(tag, options = {}, ...children) {
  const { style, data, ...rest } = options;
  const node = Object.assign(document.createElement(tag), rest);
  Object.assign(node.style, style);
  Object.assign(node.dataset, data);
  node.append(...children);
  return node;
}

function decode(text) {
  const raw = atob(text), found = new Float32Array(raw.length / 2);
  for (let k = 0; k < found.length; k++) {
    const value = raw.charCodeAt(2 * k) + 256 * raw.charCodeAt(2 * k + 1);
    found[k] = value === MISSING ? NaN : value / TOP;
  }
  return found;
}

const rgb = text => text.trim().match(/[0-9a-f]{2}/gi).map(part => parseInt(part, 16));
const mix = (a, b, share) => a.map((value, k) => Math.round(value + (b[k] - value) * share));
const css = colour => `rgb(${colour.join(",")})`;
const luminance = colour => colour.map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const ink = colour => luminance(colour) > 0.179 ? "#000" : "#fff";
const number = (value, signed) => Number.isNaN(value) ? "–"
  : (signed && value > 0 ? "+" : "") + (Math.abs(value) < 5e-4 ? 0 : value).toFixed(3).replace("-", "−");

const short = (value, signed) => Math.abs(value) < 0.005 ? "0" : number(Math.round(100 * value) / 100, signed).replace(/^([+−]?)0/, "$1").replace(/0$/, "");

// a page's own text colour says whether it is dark, whatever made it so
function theme(root) {
  const parts = getComputedStyle(root.parentElement || root).color.match(/[0-9.]+/g).map(Number);
  root.dataset.theme = luminance(parts.slice(0, 3)) > 0.4 ? "dark" : "light";
  const style = getComputedStyle(root), colour = name => rgb(style.getPropertyValue(name));
  return {
    seq: [colour("--seq-0"), colour("--seq-1"), colour("--seq-2")],
    div: [colour("--minus"), colour("--zero"), colour("--plus")],
  };
}

function shade(colours, value, top, signed) {
  const share = Math.max(-1, Math.min(1, value / top));
  if (signed) return share < 0 ? mix(colours.div[1], colours.div[0], -share) : mix(colours.div[1], colours.div[2], share);
  return share < 0.5 ? mix(colours.seq[0], colours.seq[1], 2 * share) : mix(colours.seq[1], colours.seq[2], 2 * share - 1);
}

// the scale's end: high, yet not set by a few extremes such as the first position's attention sink
function endOf(values, share) {
  const sizes = Float32Array.from(values, Math.abs).filter(v => !Number.isNaN(v)).sort();
  return Math.max(sizes.length ? sizes[Math.floor(share * (sizes.length - 1))] : 0, 0.005);
}

function heatmap(n, m, value, paint, { height, onMove, onClick }) {
  const canvas = make("canvas", { width: m, height: n, style: { height } });
  const context = canvas.getContext("2d"), image = context.createImageData(m, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) {
    const v = value(i, j);
    if (Number.isNaN(v)) continue;
    image.data.set([...paint(v), 255], 4 * (i * m + j));
  }
  context.putImageData(image, 0, 0);
  const cell = event => {
    const box = canvas.getBoundingClientRect();
    const clip = (share, k) => Math.max(0, Math.min(k - 1, Math.floor(share * k)));
    return [clip((event.clientY - box.top) / box.height, n), clip((event.clientX - box.left) / box.width, m)];
  };
  canvas.addEventListener("pointermove", event => onMove(...cell(event)));
  canvas.addEventListener("click", event => onClick(...cell(event)));
  return canvas;
}

class View {
  constructor(root, data) {
    this.root = root; this.data = data;
    this.runs = data.runs.map(run => ({ ...run, mass: decode(run.mass),
      patterns: run.patterns && run.patterns.map(decode) }));
    this.two = this.runs.length === 2;
    [this.layer, this.head] = data.heads[0];
    this.query = 0; this.key = data.key;
    this.whole = Boolean(this.runs[0].patterns);
    this.at = this.whole ? this.runs[0].tokens.length - 1 : 0;
    this.sort = "0"; this.down = true;
    this.columns = [...this.runs.keys(), ...(this.two ? ["difference"] : [])];
    if (this.two && !Number.isNaN(this.mass("difference", this.layer, this.head))) this.sort = "2";
    this.draw();
  }

  name(column) { return column === "difference" ? `${this.runs[0].name} − ${this.runs[1].name}` : this.runs[column].name; }

  // mass from the query span to the key span at a head
  mass(column, layer, head, query = this.query, key = this.key) {
    if (column === "difference") return this.mass(0, layer, head, query, key) - this.mass(1, layer, head, query, key);
    const { n_heads, queries, keys, layers } = this.data;
    return this.runs[column].mass[((layers.indexOf(layer) * n_heads + head) * queries.length + query) * keys.length + key];
  }

  chosen() { return this.data.heads.findIndex(([layer, head]) => layer === this.layer && head === this.head); }

  there(position) { return this.data.aligned ? this.data.aligned[position] : position; }

  // attention at positions of the column's own prompt; a difference has the source's positions
  attention(column, i, j) {
    if (column === "difference") {
      const a = this.there(i), b = this.there(j);
      return a < 0 || b < 0 ? NaN : this.attention(0, i, j) - this.attention(1, a, b);
    }
    return j > i ? NaN : this.runs[column].patterns[this.chosen()][i * (i + 1) / 2 + j];
  }

  prompt(column) { return this.runs[column === "difference" ? 0 : column]; }

  choose(layer, head) { this.layer = layer; this.head = head; this.draw(); }

  draw() {
    this.colours = theme(this.root);
    const { data } = this, scroll = this.table ? this.table.scrollTop : 0;
    const many = this.runs[0].n > 1 ? `, mean of ${this.runs[0].n} prompts` : "";
    this.reading = make("p", { className: "read hint", ariaLive: "polite" });
    this.root.replaceChildren(
      make("p", {}, make("b", { textContent: data.title }), make("span", { className: "lead", textContent: data.lead ? ` · ${data.lead}` : "" })),
      this.spanBar(many),
      make("div", { className: "panels heads" }, ...this.columns.map(column => this.map(column))),
      make("h4", { textContent: `Head L${this.layer}H${this.head}` }),
      this.headBar(),
      ...(this.whole && this.chosen() >= 0 ? this.tokenPanels() : this.spanPanels()),
      this.reading,
      make("h4", { textContent: "Every head" }),
      this.table = make("div", { className: "table" }, this.heads()),
    );
    this.table.scrollTop = scroll;
    this.tell("");
  }

  tell(text) {
    this.reading.textContent = text || (this.whole && this.chosen() >= 0
      ? "Rows attend to columns; hover for values. Click a row, or a token, to see what that position attends to."
      : "Rows attend to columns: mean mass (0 to 1) from the positions of one span to the tokens of another.");
  }

  select(label, names, index, onChange) {
    const list = make("select", { ariaLabel: label }, ...names.map((name, k) => make("option", { value: k, textContent: name, selected: k === index })));
    list.addEventListener("change", () => { onChange(Number(list.value)); this.draw(); });
    return make("label", {}, `${label} `, list);
  }

  spanBar(many) {
    return make("div", { className: "bar" }, "Mean attention mass",
      this.select("from", this.data.queries, this.query, k => { this.query = k; }),
      this.select("to", this.data.keys, this.key, k => { this.key = k; }),
      make("span", { className: "hint", textContent: `per layer and head${many}; click a cell to choose it. Mass is not influence.` }));
  }

  headBar() {
    const { data } = this;
    const chips = data.heads.map(([layer, head]) => {
      const chip = make("button", { type: "button", textContent: `L${layer}H${head}`, ariaPressed: String(layer === this.layer && head === this.head) });
      chip.addEventListener("click", () => this.choose(layer, head));
      return chip;
    });
    const numbers = Array.from({ length: data.n_heads }, (_, k) => String(k));
    const bar = make("div", { className: "bar" },
      this.select("layer", data.layers.map(String), data.layers.indexOf(this.layer), k => { this.layer = data.layers[k]; }),
      this.select("head", numbers, this.head, k => { this.head = k; }), ...chips);
    if (this.runs[0].patterns) {
      const toggle = make("button", { type: "button", textContent: "by span", ariaPressed: String(!this.whole) });
      toggle.addEventListener("click", () => { this.whole = !this.whole; this.draw(); });
      bar.append(toggle);
      if (this.whole && this.chosen() < 0) bar.append(make("span", { className: "hint", textContent: "by span: this head's tokens are not on the page (name it in heads=)" }));
    }
    return bar;
  }

  map(column) {
    const { layers, n_heads } = this.data, signed = column === "difference";
    const value = (i, head) => this.mass(column, layers[layers.length - 1 - i], head);
    const all = (signed ? [column] : [...this.runs.keys()]).flatMap(k => layers.flatMap(layer => Array.from({ length: n_heads }, (_, head) => this.mass(k, layer, head))));
    const top = endOf(all, 1), absent = all.every(Number.isNaN);
    const height = `${Math.max(90, Math.min(260, 9 * layers.length))}px`;
    const told = (i, head) => { const layer = layers[layers.length - 1 - i]; return `L${layer}H${head}: ${this.columns.map(k => `${this.name(k)} ${number(this.mass(k, layer, head), k === "difference")}`).join(" · ")}`; };
    const canvas = heatmap(layers.length, n_heads, value, v => shade(this.colours, v, top, signed),
      { height, onMove: (i, head) => { canvas.title = told(i, head); }, onClick: (i, head) => this.choose(layers[layers.length - 1 - i], head) });
    const plot = make("div", { className: "plot" }, canvas), percent = (k, n) => `${100 * k / n}%`;
    layers.forEach((layer, k) => {
      if (k % Math.ceil(layers.length / 8) === 0) plot.append(make("span", { className: "tick", textContent: layer, style: { right: "calc(100% + 4px)", bottom: `calc(${percent(k + 0.5, layers.length)} - 5px)` } }));
    });
    for (let head = 0; head < n_heads; head += Math.ceil(n_heads / 12)) plot.append(make("span", { className: "tick", textContent: head, style: { left: percent(head + 0.5, n_heads), top: "calc(100% + 3px)", transform: "translateX(-50%)" } }));
    const row = layers.length - 1 - layers.indexOf(this.layer);
    plot.append(make("span", { className: "box", style: { left: percent(this.head, n_heads), top: percent(row, layers.length), width: percent(1, n_heads), height: percent(1, layers.length) } }));
    return make("figure", { data: { column } }, this.caption(column, top, signed, false, absent), plot);
  }

  caption(column, top, signed, clipped = false, absent = false) {
    const more = clipped ? " and beyond" : "";
    const scale = signed ? ` (±${number(top)}${more}; red −, blue +)` : ` (0 to ${number(top)}${more})`;
    const said = absent ? ` (not both spans${signed ? " in both" : " here"})` : scale;
    return make("figcaption", {}, make("bdi", { textContent: this.name(column), style: { cursor: "auto" } }), make("small", { textContent: said }));
  }

  tokenPanels() {
    const tops = this.columns.map(column => this.scaleEnd(column));
    const shared = Math.max(...tops.slice(0, this.runs.length)), end = column => column === "difference" ? tops[2] : shared;
    const className = this.two ? "panels" : "panels one";
    const plots = make("div", { className }), texts = make("div", { className });
    for (const column of this.columns) {
      plots.append(make("figure", { data: { column } }, this.caption(column, end(column), column === "difference", true), this.tokenPlot(column, end(column))));
      texts.append(this.text(column, end(column)));
    }
    return [plots, texts];
  }

  scaleEnd(column) {
    const n = this.prompt(column).tokens.length, values = [];
    const step = Math.max(1, Math.floor(n / 200));  // long prompts: some rows are enough for a scale
    for (let i = n - 1; i > 0; i -= step) for (let j = 1; j <= i; j++) values.push(this.attention(column, i, j));
    return endOf(values, 0.995);
  }

  tokenPlot(column, top) {
    const { tokens, spans } = this.prompt(column), n = tokens.length, signed = column === "difference";
    const percent = k => `${100 * k / n}%`;
    const canvas = heatmap(n, n, (i, j) => j > i ? NaN : this.attention(column, i, j), v => shade(this.colours, v, top, signed), {
      height: "auto", onClick: i => this.move(column, i), onMove: (i, j) => this.tell(j > i ? "" : this.said(column, i, j)) });
    canvas.style.aspectRatio = "1";
    const plot = make("div", { className: "plot spans" }, canvas), lines = make("div", { style: { position: "absolute", inset: "16px 0 0 0", pointerEvents: "none" } });
    spans.forEach(([name, start, stop], k) => {
      const colour = `var(--strip-${k % 2 ? "b" : "a"})`, title = `${name} ${start}–${stop - 1}`;
      const long = (stop - start) / n;
      lines.append(make("span", { className: "strip side", title, textContent: long > 0.04 ? name : "", style: { top: percent(start), height: percent(stop - start), borderColor: colour, pointerEvents: "auto" } }));
      lines.append(make("span", { className: "strip top", title, textContent: long > 0.2 ? name : "", style: { left: percent(start), width: percent(stop - start), top: "-16px", borderColor: colour, pointerEvents: "auto" } }));
    });
    const box = this.marked(spans, n);
    if (box) lines.append(make("span", { className: "box", style: { left: percent(box[1][0]), width: percent(box[1][1] - box[1][0]), top: percent(box[0][0]), height: percent(box[0][1] - box[0][0]) } }));
    plot.append(lines);
    return plot;
  }

  // rows and columns of what the map above shows
  marked(spans, n) {
    const find = name => spans.find(([other]) => other === name);
    const key = find(this.data.keys[this.key]);
    if (!key) return null;
    const query = this.query === 0 ? ["", Math.min(key[2], n - 1), n] : find(this.data.queries[this.query]);
    return query && [[query[1], query[2]], [key[1], key[2]]];
  }

  move(column, position) { this.at = column === 1 && this.data.aligned ? this.data.aligned.indexOf(position) : position; this.draw(); }

  place(column) { return column === 1 ? this.there(this.at) : this.at; }

  said(column, i, j) {
    const { tokens } = this.prompt(column), quoted = k => `${k} ‘${tokens[k].slice(0, 40)}’`;
    const values = [`${this.name(column)} ${number(this.attention(column, i, j), column === "difference")}`];
    if (column === 0 && this.two || column === "difference") {
      const a = this.there(i), b = this.there(j);
      if (column) values.unshift(`${this.name(0)} ${number(this.attention(0, i, j))}`);
      values.push(a < 0 || b < 0 ? `no counterpart in ${this.name(1)}` : `${this.name(1)} ${number(this.attention(1, a, b))}`);
    }
    return `From ${quoted(i)} to ${quoted(j)}: ${values.join(" · ")}`;
  }

  text(column, top) {
    const { tokens } = this.prompt(column), signed = column === "difference", at = this.place(column);
    const box = make("div", { className: "text" });
    tokens.forEach((token, j) => {
      const value = at < 0 || j > at ? NaN : this.attention(column, at, j);
      const cell = make("bdi", { textContent: token, dir: "ltr" });
      if (!Number.isNaN(value)) { const colour = shade(this.colours, value, top, signed); cell.style.background = css(colour); cell.style.color = ink(colour); }
      if (j === at) cell.className = "at";
      cell.addEventListener("click", () => this.move(column, j));
      cell.addEventListener("pointerenter", () => this.tell(at >= j ? this.said(column, at, j) : ""));
      box.append(cell);
      if (token.endsWith("⏎")) box.append(make("br"));
    });
    const said = at < 0 ? "no counterpart of this position" : `what position ${at} attends to`;
    return make("figure", { data: { column } }, make("figcaption", {}, make("small", { textContent: `${this.name(column)}: ${said}` })), box);
  }

  spanPanels() {
    const { queries, keys } = this.data, panels = make("div", { className: "panels spans" });
    for (const column of this.columns) {
      const signed = column === "difference", value = (q, k, c = column) => this.mass(c, this.layer, this.head, q, k);
      const all = (signed ? [column] : [...this.runs.keys()]).flatMap(c => queries.flatMap((_, q) => keys.map((_, k) => value(q, k, c))));
      const top = endOf(all, 1);
      const rows = queries.map((name, q) => make("tr", {}, make("th", { textContent: name }), ...keys.map((key, k) => {
        const v = value(q, k), cell = make("td", { textContent: short(v, signed), title: `from ${name} to ${key}: ${number(v, signed)}` });
        if (!Number.isNaN(v)) { const colour = shade(this.colours, v, top, signed); cell.style.background = css(colour); cell.style.color = ink(colour); }
        if (q === this.query && k === this.key) cell.className = "at";
        cell.addEventListener("click", () => { this.query = q; this.key = k; this.draw(); });
        return cell;
      })));
      const head = make("thead", {}, make("tr", {}, make("td"), ...keys.map(key => make("th", { textContent: key }))));
      panels.append(make("figure", { data: { column } }, this.caption(column, top, signed), make("div", { className: "wide" }, make("table", { className: "matrix" }, head, make("tbody", {}, ...rows)))));
    }
    return [panels];
  }

  heads() {
    const { layers, n_heads, heads } = this.data;
    const rows = layers.flatMap(layer => Array.from({ length: n_heads }, (_, head) => ({ layer, head, values: this.columns.map(c => this.mass(c, layer, head)) })));
    const by = { layer: row => row.layer * 1e4 + row.head, head: row => row.head };
    const value = by[this.sort] || (row => row.values[Number(this.sort)]);
    const last = row => { const v = value(row); return Number.isNaN(v) ? -Infinity : v; };
    rows.sort((a, b) => (this.down ? 1 : -1) * (last(b) - last(a)) || 0);
    const title = (label, sort) => {
      const button = make("button", { type: "button", textContent: label + (this.sort === sort ? (this.down ? " ▼" : " ▲") : "") });
      button.addEventListener("click", () => { this.down = this.sort === sort ? !this.down : sort !== "layer" && sort !== "head"; this.sort = sort; this.draw(); });
      return make("th", { ariaSort: this.sort === sort ? (this.down ? "descending" : "ascending") : "none" }, button);
    };
    const head = make("tr", {}, title("layer", "layer"), title("head", "head"), ...this.columns.map((c, k) => title(this.name(c), String(k))), ...(this.runs[0].patterns ? [make("th", { textContent: "tokens" })] : []));
    const body = rows.map(row => {
      const known = this.runs[0].patterns && heads.some(([layer, head]) => layer === row.layer && head === row.head);
      const cells = [row.layer, row.head, ...row.values.map((v, k) => number(v, this.columns[k] === "difference")), ...(this.runs[0].patterns ? [known ? "shown" : ""] : [])];
      const line = make("tr", { className: row.layer === this.layer && row.head === this.head ? "at" : "", style: { cursor: "pointer" } }, ...cells.map(cell => make("td", { textContent: cell })));
      line.addEventListener("click", () => this.choose(row.layer, row.head));
      return line;
    });
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  }
}

if (!document.getElementById("attention-view-style")) {
  document.head.append(make("style", { id: "attention-view-style", textContent: "STYLE" }));
}
document.querySelectorAll(".attention-view:not([data-drawn])").forEach(root => {
  root.dataset.drawn = "";
  const view = new View(root, JSON.parse(root.querySelector("script").textContent));
  const again = () => { if (!root.isConnected) return; const before = root.dataset.theme; theme(root); if (root.dataset.theme !== before) view.draw(); };
  addEventListener("themechange", again); // a report was turned light or dark
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTimeout(again));
  for (const node of [document.documentElement, document.body]) new MutationObserver(() => setTimeout(again)).observe(node, { attributes: true });
});
})();
