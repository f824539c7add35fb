// Quality against cost with Plotly: a line an entrant, in the figures' colours; a click on a mark opens its panel.
const curves = document.getElementById("curves");
const choice = curves.querySelector("form").elements;
const plot = curves.querySelector(".plot");

const unique = (values) => [...new Set(values)].sort();
const entrantsOf = (dataset) => Object.values(STUDY.points)
  .filter((point) => point.dataset === dataset && point.kind === "entrant");

// Fills a select; keeps the chosen value where it is still offered.
function offer(select, options, preferred) {
  const before = select.options.length ? select.value : undefined;
  select.replaceChildren(...options.map(([value, title]) => el("option", { value }, title)));
  const values = options.map(([value]) => value);
  select.value = values.includes(before) ? before : values.includes(preferred) ? preferred : values[0] ?? "";
}

function offerAll() {
  offer(choice.dataset, Object.keys(STUDY.datasets).map((name) => [name, words(name)]));
  const known = STUDY.datasets[choice.dataset.value];
  if (!known) return;
  const points = entrantsOf(choice.dataset.value);
  const accelerators = unique(points.map((point) => point.accelerator));
  offer(choice.baseline, [["", "all"], ...known.baselines.toSorted().map((name) => [name, name])], known.baselines[0]);
  offer(choice.accelerator, [["", "all"], ...accelerators.map((name) => [name, name])], "");
  offer(choice.y, known.metrics.map((name) => [name, name]));
  offer(choice.x, Object.entries(STUDY.costs), "nfe");
  offer(choice.lines, [["best", "the best ones, and a plain one"], ["all", "all"]]);
}

function hover(point, name) {
  const metric = point.metrics[name];
  const interval = metric.low === undefined ? "" : ` (95 % ${metric.low.toPrecision(3)} to ${metric.high.toPrecision(3)})`;
  const cost = ["seconds_per_sample", "gflop_per_sample", "fit_seconds"].filter((key) => point.costs[key])
    .map((key) => `${STUDY.costs[key]}: ${point.costs[key][1]}`);
  return [`<b>${point.label}</b>`, `NFE ${point.nfe}${point.rank ? `, rank ${point.rank}` : ""}`,
    `${name}: ${metric.text}${interval}`, ...cost].join("<br>");
}

const colourOf = (point) => STUDY.looks.colour[point.accelerator === "none" ? point.solver : point.accelerator] ?? "#3c3c3c";

function line(points, x, y) {
  const first = points[0];
  const values = points.map((point) => point.metrics[y]);
  const [colour, hollow] = [colourOf(first), STUDY.looks.hollow[first.solver]];
  return {
    type: "scatter",
    mode: "lines+markers",
    name: choice.baseline.value || choice.accelerator.value ? first.label : first.entrant,
    x: points.map((point) => (x === "nfe" ? point.nfe : point.costs[x][0])),
    y: values.map((metric) => metric.mean),
    error_y: {
      type: "data", symmetric: false, thickness: 1, width: 2,
      array: values.map((metric) => (metric.high ?? metric.mean) - metric.mean),
      arrayminus: values.map((metric) => metric.mean - (metric.low ?? metric.mean)),
    },
    line: { color: colour, width: 1.8, dash: STUDY.looks.dash[first.solver] ?? "solid" },
    marker: {
      symbol: STUDY.looks.symbol[first.solver] ?? "circle", size: 8, color: hollow ? "white" : colour,
      line: hollow ? { color: colour, width: 1.5 } : { color: "white", width: 0.8 },
    },
    customdata: points.map((point) => `${point.dataset}/${point.entrant}/${point.nfe}`),
    text: points.map((point) => hover(point, y)),
    hovertemplate: "%{text}<extra></extra>",
  };
}

function traces() {
  const [x, y, dataset] = [choice.x.value, choice.y.value, choice.dataset.value];
  const shown = new Set(STUDY.datasets[dataset].shown);
  const lines = new Map();
  for (const point of entrantsOf(dataset)) {
    const wanted = ["baseline", "accelerator"].every((key) => [point[key], ""].includes(choice[key].value))
      && (choice.lines.value === "all" || shown.has(point.entrant));
    const drawable = point.status === "ok" && (point.metrics[y]?.mean > 0 || (point.metrics[y] && !choice.logy.checked)) && (x === "nfe" || point.costs[x]);
    if (wanted && drawable) lines.set(point.entrant, [...(lines.get(point.entrant) ?? []), point]);
  }
  return [...lines.values()].map((points) => line(points.sort((a, b) => a.nfe - b.nfe), x, y))
    .sort((a, b) => a.name.localeCompare(b.name));
}

// The controls: noise is the worst that a table can show, data the best.
function controls(y, drawn) {
  const all = drawn.flatMap((trace) => trace.y);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return Object.values(STUDY.points)
    .filter((point) => point.dataset === choice.dataset.value && point.kind === "control" && point.metrics[y]?.mean > least / 30)
    .filter((point) => point.metrics[y].mean < 3 * most)
    .map((point) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: point.metrics[y].mean, y1: point.metrics[y].mean,
      line: { color: "#777777", width: 1, dash: "dot" },
      label: { text: point.label, textposition: "end", font: { size: 11, color: "#555555" }, yanchor: point.metrics[y].mean > most ? "top" : "bottom" },
    }));
}

// Ticks at 1, 2 and 5 of every decade of a log axis.
const spaced = (log) => ({ exponentformat: "none", ...(log ? { dtick: "D2", minorloglabels: "complete" } : {}) });

function draw() {
  const [x, y] = [choice.x.value, choice.y.value];
  const drawn = traces();
  const narrow = plot.clientWidth < 700;
  const nfes = unique(drawn.flatMap((trace) => trace.x).map((value) => String(value))).map(Number).sort((a, b) => a - b);
  const axis = { gridcolor: "#e6e6e6", linecolor: "#666666", zeroline: false, ticks: "outside", automargin: true };
  const layout = {
    height: narrow ? 620 : 540,
    margin: { l: 64, r: 16, t: 40, b: 64 }, // the buttons of Plotly stand above
    paper_bgcolor: "white", plot_bgcolor: "white",
    font: { family: "system-ui, sans-serif", size: 13, color: "#1d2330" },
    hovermode: "closest",
    hoverlabel: { bgcolor: "white", font: { color: "#1d2330", size: 13 }, align: "left" },
    showlegend: true,
    legend: narrow ? { orientation: "h", y: -0.2 } : { x: 1.02, y: 1 },
    xaxis: {
      ...axis, title: { text: STUDY.costs[x] }, type: choice.logx.checked ? "log" : "linear",
      ...(x === "nfe" ? { tickvals: nfes, ticktext: nfes.map(String) } : spaced(choice.logx.checked)),
    },
    yaxis: {
      ...axis, title: { text: `${y} (${STUDY.metrics[y].better})` }, type: choice.logy.checked ? "log" : "linear",
      ...spaced(choice.logy.checked),
    },
    shapes: controls(y, drawn),
  };
  const options = {
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", // nothing leaves the page
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
  };
  Plotly.react(plot, drawn, layout, options);
  curves.querySelector(".note").textContent = drawn.length
    ? `${drawn.length} entrants; bars are 95 % intervals.` : "No point of this choice has a value to draw.";
}

// Plotly comes packed with the page, a third of its size, and is unpacked once the rest works.
async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(el("script", {}, await new Response(stream).text()));
}

async function start() {
  await new Promise((painted) => setTimeout(painted));
  try {
    await unpack("plotly");
  } catch {
    curves.querySelector(".note").textContent = "This browser is too old for the curves; the figures below show them.";
    return;
  }
  offerAll();
  draw();
  plot.on("plotly_click", (event) => openPanel(event.points[0].customdata, null));
  curves.querySelector("form").addEventListener("input", () => {
    offerAll();
    draw();
  });
}

if (Object.keys(STUDY.datasets).length) start();
