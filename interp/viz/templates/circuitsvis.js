// values come as whole numbers of 1/scale, each row up to the diagonal: what a causal model can see
document.querySelectorAll(".attention:not([data-drawn])").forEach(root => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const target = root.querySelector("div");
  target.id = `attention-${Math.random().toString(36).slice(2)}`;
  root.dataset.drawn = "";
  const full = row => data.tokens.map((_, i) => (row[i] || 0) / data.scale);
  CircuitsVis.render(target.id, CircuitsVis.AttentionHeads, {
    attention: data.values.map(head => head.map(full)),
    attentionHeadNames: data.heads,
    tokens: data.tokens,
    minValue: -data.top,
    maxValue: data.top,
  });
});
