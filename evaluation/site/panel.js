// The panel: everything about one point, opened from a number, a mark of a curve, or the page's address.
const panel = document.getElementById("panel");
let opener = null;

const VERDICTS = {
  best: "the best mean at this dataset and NFE",
  yes: "worse than the best, beyond the noise",
  no: "not told apart from the best",
};

function openPanel(key, from = document.activeElement) {
  if (!Object.hasOwn(STUDY.points, key)) return false;
  fillPanel(key);
  if (!panel.open) {
    opener = from;
    panel.showModal();
  }
  panel.scrollTop = 0;
  panel.querySelector("h2").focus();
  return true;
}

panel.addEventListener("close", () => {
  history.replaceState(null, "", location.href.split("#")[0]);
  if (opener?.isConnected) opener.focus();
});
panel.addEventListener("click", (event) => event.target === panel && panel.close()); // beside the panel

function fromAddress() {
  let key = location.hash.slice(1);
  try { key = decodeURIComponent(key); } catch { /* a lone % names no point */ }
  const row = document.querySelector(`tr[data-key="${CSS.escape(key)}"] .main button`);
  if (!openPanel(key, row) && panel.open) panel.close();
}
addEventListener("hashchange", fromAddress);

function fillPanel(key) {
  const point = STUDY.points[key];
  history.replaceState(null, "", `#${encodeURI(key)}`);
  const close = el("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => panel.close());
  panel.replaceChildren(
    el("header", {},
      el("div", {},
        el("h2", { id: "panel-title", tabindex: "-1" }, `${point.label}, NFE ${point.nfe}`),
        el("p", { class: "lead" }, `${words(point.dataset)} · `, el("code", {}, point.entrant))),
      close),
    nfeSwitch(key, point),
    headline(point),
    part("Metrics", metricTable(point)),
    part("Samples", samples(point)),
    part("Cost", costs(point)),
    part("Files", files(point)),
    part("Provenance", provenance(point)),
    part("Make this point again", commands(point)),
  );
}

const part = (title, ...content) => el("section", {}, el("h3", {}, title), ...content);

// Buttons to the same entrant's other NFEs.
function nfeSwitch(key, point) {
  const stem = key.slice(0, key.lastIndexOf("/") + 1);
  const nfes = Object.values(STUDY.points)
    .filter((other) => other.dataset === point.dataset && other.entrant === point.entrant)
    .map((other) => other.nfe).sort((a, b) => a - b);
  if (nfes.length < 2) return null;
  const buttons = nfes.map((nfe) => {
    const button = el("button", { type: "button", "aria-label": `NFE ${nfe}` }, String(nfe));
    if (nfe === point.nfe) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      fillPanel(stem + nfe);
      panel.querySelector(".nfes [aria-current]").focus();
    });
    return button;
  });
  return el("p", { class: "nfes", role: "group", "aria-label": "Other NFEs of this entrant" }, el("span", {}, "NFE "), buttons);
}

function headline(point) {
  const name = STUDY.datasets[point.dataset].metrics[0];
  const metric = point.metrics[name];
  const ranks = point.rank_low !== undefined && point.rank_low !== point.rank_high
    ? ` (${point.rank_low}–${point.rank_high})` : "";
  const facts = [
    point.rank !== undefined ? `rank ${point.rank}${ranks}` : "",
    VERDICTS[point.decided] ?? "",
  ].filter(Boolean).join(", ");
  return el("div", { class: "headline" },
    metric?.text
      ? el("p", { class: "number" }, metric.text, el("small", {}, ` ${name}, ${STUDY.metrics[name].better}`))
      : null,
    point.status === "ok" ? null : el("p", {},
      el("span", { class: `pill ${point.status}` }, words(point.status)), ` ${point.reason}`),
    facts ? el("p", {}, facts[0].toUpperCase() + facts.slice(1), ".") : null,
    point.warning ? el("p", { class: "caution" }, point.warning) : null,
    point.skipped ? el("p", { class: "caution" }, `Skipped metrics: ${point.skipped}.`) : null);
}

function tableOf(caption, heads, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      heads ? el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))) : null,
      el("tbody", {}, rows.map(([head, ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, head), cells.map((cell) => el("td", {}, cell)))))));
}

function metricTable(point) {
  const names = Object.keys(point.metrics);
  if (!names.length) return el("p", {}, "No value: the point did not get that far.");
  const several = new Set(Object.values(point.metrics).flatMap((m) => m.values.map(([seed]) => seed))).size > 1;
  const value = ([seed, block, x]) => {
    const place = [several ? `seed ${seed}` : "", block < 0 ? "all" : `block ${block}`].filter(Boolean).join(" ");
    return `${place}: ${Number(x.toPrecision(4))}`;
  };
  return tableOf("Metrics with their values by block", ["metric", "mean ± half", "95 % interval", "over", "samples", "values"],
    names.map((name) => {
      const m = point.metrics[name];
      const interval = m.low === undefined ? "" : `${Number(m.low.toPrecision(4))} to ${Number(m.high.toPrecision(4))}`;
      const n = [m.n_generated, m.n_reference].filter((count) => count !== undefined).join(" against ");
      const known = STUDY.metrics[name];
      const label = known ? `${known.label === name ? "" : `${known.label}, `}${known.better}` : "";
      return [[name, el("small", {}, label)], m.text ?? "", interval, m.over ?? "one value", n, m.values.map(value).join("; ")];
    }));
}

function samples(point) {
  const found = Object.entries(point.runs).filter(([, run]) => run.samples);
  if (!found.length) return el("p", {}, "There is no picture of this entrant's samples.");
  return found.map(([seed, run]) => {
    const text = `Samples of ${point.entrant} from the same latents at each NFE, training seed ${seed}`;
    const image = el("img", { loading: "lazy", alt: text, src: run.samples });
    const link = el("a", { href: run.samples }, image);
    image.addEventListener("error", () => link.replaceWith(
      el("p", { class: "caution" }, `The picture is not beside this page: ${run.samples}`)));
    return el("figure", {}, link, el("figcaption", {}, `${text}.`));
  });
}

function costs(point) {
  const known = Object.entries(STUDY.costs).filter(([name]) => point.costs[name]);
  const measured = point.costs.nfe_measured?.[0];
  return el("dl", { class: "facts" },
    el("div", {}, el("dt", {}, "NFE, asked and measured"), el("dd", {}, `${point.nfe}, ${measured ?? "unknown"}`)),
    known.filter(([name]) => name !== "nfe").map(([name, title]) =>
      el("div", {}, el("dt", {}, title), el("dd", {}, point.costs[name][1]))));
}

function files(point) {
  const items = Object.entries(point.runs).flatMap(([seed, run]) => ["log", "samples"]
    .filter((what) => run[what])
    .map((what) => el("li", {}, el("a", { href: run[what], class: what }, `${what}, training seed ${seed}`))));
  return items.length ? el("ul", {}, items) : el("p", {}, "No log or picture was kept with this page.");
}

function provenance(point) {
  const seeds = Object.keys(point.runs);
  const of = seeds.map((seed) => STUDY.provenance[point.runs[seed].provenance] ?? {});
  const names = [...new Set(of.flatMap(Object.keys))];
  const rows = names.map((name) => [name, ...of.map((known) => known[name] ?? "")]);
  for (const [name, metric] of Object.entries(point.metrics)) {
    for (const key of ["extractor", "extractor_sha256", "reference_sha256"]) {
      if (metric[key]) rows.push([`${words(key)} of ${name}`, ...seeds.map(() => metric[key])]);
    }
  }
  if (!rows.length) return el("p", {}, "Nothing is known: the point has no score file.");
  return tableOf("Provenance", seeds.length > 1 ? ["of", ...seeds.map((seed) => `training seed ${seed}`)] : null, rows);
}

function commands(point) {
  const solver = point.kind === "control" ? point.entrant : point.solver;
  const lines = Object.entries(point.runs).flatMap(([seed, run]) => {
    const commit = STUDY.provenance[run.provenance]?.commit;
    const known = { dataset: point.dataset, model: point.model, solver, seed, commit };
    const fill = (text) => text.replaceAll(/\{(\w+)\}/g, (_, name) => known[name]);
    const nfe = point.kind === "control" ? "" : ` --nfe ${point.nfe}`;
    return [
      commit && commit !== "unknown" ? fill(STUDY.commands.commit) : "",
      "# samples and scores of the model, with all that they need",
      fill(STUDY.commands.all),
      "# or, once the model is trained, the samples of this point alone",
      fill(STUDY.commands.sample) + nfe,
    ].filter(Boolean);
  });
  return el("pre", { tabindex: "0", role: "region", "aria-label": "Commands" }, el("code", {}, [...new Set(lines)].join("\n")));
}

fromAddress();
