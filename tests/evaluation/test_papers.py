"""The published numbers: what each file must hold, what the papers say of them, and where two files repeat one."""

from itertools import pairwise

import pytest

from evaluation.cite import REFERENCES, entries
from evaluation.papers import FOLDER, papers, read
from evaluation.papers.names import PRINTED
from fewstep import registry
from fewstep.errors import UserError
from fewstep.plan import OWN

TABLES = [(f"{p}.{t}", table) for p, paper in papers().items() for t, table in paper.tables.items()]
tables = pytest.mark.parametrize("table", [table for _, table in TABLES], ids=[name for name, _ in TABLES])
BOUNDED = ("recall", "precision", "coverage")


def value(paper: str, table: str, row: str, column: int | str = 0, nfe: int | None = None) -> float:
    """A cell by its row's label (and NFE) and its column's number or label."""
    found = papers()[paper].tables[table]
    [line] = [r for r in found.rows if r.label == row and nfe in (None, r.nfe)]
    column = column if isinstance(column, int) else [c.label for c in found.columns].index(column)
    return float(found.line(line)[column][1])


def line(paper: str, table: str, row: str) -> list[float]:
    [found] = [r for r in papers()[paper].tables[table].rows if r.label == row]
    return [float(v) for v in found.values if v is not None]


@tables
def test_values_are_possible(table):
    for row in table.rows:
        for column, printed in table.line(row):
            metric = column.metric or table.metric
            if printed is not None:
                assert printed > 0 or (metric.startswith(BOUNDED) and printed == 0), row.label
                assert printed <= 1 or not metric.startswith(BOUNDED), row.label


@tables
def test_every_table_says_where_it_stands_and_tells_its_columns_apart(table):
    assert table.title and table.source
    labels = [column.label for column in table.columns]
    assert len(set(labels)) == len(labels)


def test_every_paper_has_a_published_value():
    for name, paper in papers().items():
        assert any(table.has_values for table in paper.tables.values()), name


@tables
def test_an_analogue_is_small_and_never_the_table_s_own_dataset(table):
    if table.analogue:
        assert table.analogue.dataset in ("digits", "mixture", "eight_gaussians", "moons", "checkerboard")
        assert all((column.dataset or table.dataset) != table.analogue.dataset for column in table.columns)
        assert table.analogue.metric not in PRINTED


@tables
def test_counterparts_are_entrants_that_can_be(table):
    known = registry.discover()
    for row in table.rows:
        for pattern in row.entrant:
            if pattern in registry.of_kind("control"):
                continue
            model, slash, solver = pattern.partition("/")
            baseline, _, accelerator = model.partition("+")
            assert known[baseline].kind == "baseline", pattern
            id = accelerator.rstrip("*").rstrip("-")
            assert not id or known[id].kind == "accelerator", pattern
            if solver == OWN:
                assert known[id].solvers == OWN, pattern
            elif slash and not set("*?") & set(solver):
                assert known[solver].kind == "solver", pattern
                assert not row.params or set(row.params) <= set(known[solver].card.params), pattern
    for column in table.columns:
        assert not column.solver or known[column.solver].kind == "solver", column.label


def test_one_key_is_one_entry_everywhere():
    """Papers, method cards and datasets cite the same work under one key, in the same words."""
    texts = [paper.bibtex for paper in papers().values()] + [REFERENCES.read_text()]
    texts += [method.card.paper.bibtex for method in registry.discover().values()]
    seen = {}
    for text in texts:
        for key, entry in entries(text).items():
            assert seen.setdefault(key, " ".join(entry.split())) == " ".join(entry.split()), key


def test_every_paper_has_one_entry():
    for name, paper in papers().items():
        assert len(entries(paper.bibtex)) == 1, name


# What the papers say of their own numbers.


def test_bellman_steps_beat_uniform_ones_everywhere():
    for nfe in (4, 6, 8):
        uniform, bellman = line("boss", "table1", f"NFE {nfe}, uniform"), line("boss", "table1", f"NFE {nfe}, Bellman")
        assert all(b < u for b, u in zip(bellman, uniform, strict=True))
    for kind in ("uniform", "Bellman"):
        by_nfe = [line("boss", "table1", f"NFE {nfe}, {kind}") for nfe in (4, 6, 8)]
        assert all(b < a for fewer, more in pairwise(by_nfe) for a, b in zip(fewer, more, strict=True))


def test_carried_over_bellman_steps_stand_between_uniform_and_own_ones():
    rows = [line("boss", "transfer", row) for row in ("own Bellman steps", "Bellman steps found elsewhere", "uniform")]
    assert all(own < carried < uniform for own, carried, uniform in zip(*rows, strict=True))
    table1 = [[line("boss", "table1", f"NFE {n}, {kind}") for n in (4, 6, 8)] for kind in ("Bellman", "uniform")]
    for row, by_nfe in zip((rows[0], rows[2]), table1, strict=True):
        assert row == [values[column] for column in (1, 4) for values in by_nfe]  # CelebA-HQ, LSUN Bedroom


def test_boss_wins_at_high_resolution_and_not_on_cifar10():
    boss, *others = (line("boss", "table2", name) for name in ("BOSS-6", "Distill-6-Reflow", "Uniform-Reflow"))
    assert all(boss[0] > other[0] for other in others)
    assert all(b < o for other in others for b, o in zip(boss[1:], other[1:], strict=True))


def test_reflow_helps_one_step_and_costs_at_full_simulation():
    full = [value("rectified_flow", "table1a_full", f"{k}-RF, RK45", "FID") for k in (1, 2, 3)]
    one = [value("rectified_flow", "table1a_one_step", f"{k}-RF", "FID") for k in (1, 2, 3)]
    assert full == sorted(full) and one == sorted(one, reverse=True)


def test_distillation_helps_one_step_and_a_second_round_no_longer_helps_it():
    both = [(f"{k}-RF", f"{k}-RF, distilled") for k in (1, 2, 3)]
    plain, distilled = zip(
        *([value("rectified_flow", "table1a_one_step", row, "FID") for row in pair] for pair in both), strict=True
    )
    assert all(d < p for d, p in zip(distilled, plain, strict=True))
    assert min(distilled) == distilled[1]


def test_mac_is_the_best_row_of_its_tables():
    for table, best in (("cifar10", 1.69), ("components", 1.81)):
        rows = papers()["mac"].tables[table].rows
        found = [float(r.values[0]) for r in rows if r.values and r.values[0] is not None]
        assert min(found) == best == float(rows[-1].values[0])
    for alpha, gamma in (("SI_α", "SI_γ"), ("FM_α", "FM_γ")):
        both = zip(line("mac", "pretraining", gamma), line("mac", "pretraining", alpha), strict=True)
        assert all(g < a for g, a in both)
    for table in ("adaptivity_si", "adaptivity_ddpm"):
        by_input = [row.values[0] for row in papers()["mac"].tables[table].rows if not row.ours]
        assert len(by_input) == 3 and all(better < worse for worse, better in pairwise(by_input))
    assert line("mac", "w2", "SI_γ + optimised φ") < line("mac", "w2", "SI_α")


def test_two_rf_plus_plus_improves_step_by_step_on_cifar10():
    rows = [row for row in papers()["rfpp"].tables["configurations"].rows if not row.ours]
    ones = [float(row.values[0]) for row in rows]
    assert ones[-1] == min(ones) and ones[0] == max(ones)
    for row in rows[1:-1]:
        one, two = row.values[::2], row.values[1::2]
        assert all(b < a for a, b in zip(one, two, strict=True)), row.label


@pytest.mark.parametrize("dataset", ["cifar10", "ffhq64", "imagenet64"])
def test_solvers_improve_with_calls_and_on_their_predecessors(dataset):
    rows = {
        row.label: line("diff_sampler", dataset, row.label) for row in papers()["diff_sampler"].tables[dataset].rows
    }
    assert all(values == sorted(values, reverse=True) for values in rows.values())
    for better, worse in (("UniPC-3", "DPM-Solver++(3M)"), ("iPNDM-4", "Euler"), ("iPNDM-4", "iPNDM_v-4")):
        assert all(b < w for b, w in zip(rows[better], rows[worse], strict=True))


def test_dpm_solver_v3_beats_its_predecessors_at_few_calls():
    for table in ("cifar10_edm", "cifar10_score_sde"):
        v3, others = line("dpm_solver_v3", table, "DPM-Solver-v3"), ("UniPC", "DPM-Solver++")
        for other in others:
            both = zip(v3[:5], line("dpm_solver_v3", table, other)[:5], strict=True)
            assert all(a < b for a, b in both)


def test_larger_edm2_networks_are_better():
    for table in ("imagenet512", "imagenet64"):
        for column in zip(*(row.values for row in papers()["edm2"].tables[table].rows), strict=True):
            assert list(column) == sorted(column, reverse=True)


def test_the_bias_of_fd_dinov2_is_a_few_units_at_50000_images():
    for row in papers()["dgm_eval"].tables["cifar10"].rows:
        bias = float(row.values[0] - row.values[1])
        assert (3 < bias < 7) if row.label != "test set (10k)" else (25 < bias < 35)


def test_qac_needs_fewer_calls_than_the_edm_it_starts_from():
    assert value("qac", "table7", "QAC", "AFHQv2, NFE 3") < value("qac", "table7", "EDM", "AFHQv2, NFE 3")
    assert value("qac", "table7", "QAC", "AFHQv2, NFE 6") < value("qac", "table7", "QAC", "AFHQv2, NFE 3")
    assert line("qac", "table7", "QAC") == [5.14, 6.91, 8.32, 3.10]


# Where one paper repeats another's numbers, both files hold the same.

SAME = [
    (("qac", "table6", "DDIM"), ("diff_sampler", "cifar10", "Euler", "NFE 10")),
    (("qac", "table6", "DPM-Solver"), ("diff_sampler", "cifar10", "DPM-Solver-2", "NFE 8")),
    (("qac", "table6", "DEIS"), ("diff_sampler", "cifar10", "DEIS-tAB3", "NFE 6")),
    (("qac", "table6", "DPM-Solver++"), ("dpm_solver_v3", "cifar10_edm", "DPM-Solver++", "NFE 6")),
    (("qac", "table6", "UniPC"), ("dpm_solver_v3", "cifar10_edm", "UniPC", "NFE 6")),
    (("qac", "table6", "DPM-Solver-v3"), ("dpm_solver_v3", "cifar10_edm", "DPM-Solver-v3", "NFE 6")),
    (("qac", "table6", "RectifiedFlow"), ("rectified_flow", "table1a_full", "1-RF, RK45", "FID")),
    (("qac", "table6", "QAC", 0, 6), ("qac", "table7", "QAC", "CIFAR-10, NFE 6")),
    (("qac", "table6", "EDM"), ("scm", "quoted_edm", "EDM, deterministic Heun")),
    (("edm", "cifar10", "VP"), ("edm", "networks", "VP")),
    (("edm", "cifar10", "VP", 1), ("mac", "cifar10", "EDM_α", 1)),
    (("edm", "cifar10", "VP"), ("rfpp", "rivals", "EDM", "NFE 35")),
    (("ctm", "headline", "CTM", "NFE 2"), ("mac", "cifar10", "CTM_α + adversarial θ")),
    (("ctm", "conditional", "CTM", "NFE 2"), ("mac", "cifar10", "CTM_α + adversarial θ", 1)),
    (("ctm", "conditional", "CTM", "NFE 1"), ("mac", "cifar10", "CTM", 1, 1)),
    (("ctm", "imagenet64", "CTM", "NFE 2"), ("mac", "imagenet64", "CTM_α + adversarial θ")),
    (("ctm", "headline", "CTM"), ("sfd", "cifar10", "CTM")),
    (("ctm", "headline", "CD, original"), ("sfd", "cifar10", "CD")),
    (("rfpp", "rivals", "PD", "NFE 2"), ("sfd", "cifar10", "PD", "NFE 2")),
    (("rfpp", "rivals", "iCT"), ("meanflow", "cifar10", "iCT")),
    (("rfpp", "configurations", "A: 2-RF of Liu et al."), ("rectified_flow", "table1a_one_step", "2-RF", "FID")),
    (("rectified_flow", "distilled", "2-RF in 1 step"), ("rectified_flow", "table1a_one_step", "2-RF", "FID")),
    (
        ("rectified_flow", "distilled", "distilled to 1 step"),
        ("rectified_flow", "table1a_one_step", "2-RF, distilled", "FID"),
    ),
    *[
        (("amed", "odd_cifar10", name, f"NFE {n}"), ("amed", "cifar10", name, f"NFE {n}"))
        for name in ("AMED-Solver", "AMED-Plugin (iPNDM)")
        for n in (3, 5, 7, 9)
    ],
]


@pytest.mark.parametrize(("a", "b"), SAME, ids=lambda where: ".".join(map(str, where)))
def test_repeated_numbers_are_the_same(a, b):
    assert value(*a) == value(*b)


# Bad files.

GOOD = (FOLDER / "s4s.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("confidence: abstract", "confidance: abstract"), "did you mean 'confidence'"),
        (("confidence: abstract", "confidence: abstact"), "did you mean 'abstract'"),
        (("dataset: cifar10", "dataset: cifar"), "did you mean 'cifar10'"),
        (("metric: fid", "metric: fidd"), "did you mean 'fid'"),
        (("values: [3.73]", "values: [3.73, 1]"), "2 values for 1 columns"),
        (("label: S4S-Alt,", "label: S4S-Alt, nfe: 5,"), None),
        (("{label: CIFAR-10}", "{label: CIFAR-10, nfe: 5}"), None),
        (("values: [3.73]", "values: [low]"), "values"),
        (("values: [3.73]", "ours: true, values: [3.73]"), "is ours, so it has no published values"),
        ((", values: [3.73]", ", ours: true"), "at least one row and one column must be the paper's"),
        ((", values: [3.73]", ""), "confidence is 'missing' exactly where no row has a value"),
        (("confidence: abstract", "confidence: missing"), "confidence is 'missing' exactly where no row has a value"),
        (("label: S4S-Alt,", "label: S4S-Alt, entrant: rf,"), "names a model alone, and column 'CIFAR-10' no solver"),
        (("label: S4S-Alt,", "label: S4S-Alt, against: S4S-Al,"), "did you mean 'S4S-Alt'"),
        (("label: S4S-Alt,", "label: S4S-Alt, against: S4S-Alt,"), "needs two rows, each with a label of its own"),
        (("    rows:", "    analogue: {dataset: digits}\n    rows:"), "metric of the analogue"),
        (("label: S4S\n", "label: [S4S\n"), "not valid YAML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path, change, message):
    assert change[0] in GOOD
    file = tmp_path / "paper.yaml"
    file.write_text(GOOD.replace(*change))
    if message is None:  # an NFE may stand on the row or on the column
        assert read(file).tables["headline"].nfe == 5
        return
    with pytest.raises(UserError, match=message) as error:
        read(file)
    assert "\n" not in str(error.value) and "paper.yaml" in str(error.value)


def test_an_nfe_on_both_row_and_column_is_refused(tmp_path):
    file = tmp_path / "paper.yaml"
    file.write_text(
        GOOD.replace("{label: CIFAR-10}", "{label: CIFAR-10, nfe: 5}").replace("S4S-Alt,", "S4S-Alt, nfe: 5,")
    )
    with pytest.raises(UserError, match="both set the NFE"):
        read(file)


def test_printed_digits_are_kept(tmp_path):
    file = tmp_path / "paper.yaml"
    file.write_text(GOOD.replace("[3.73]", "[3.70]"))
    assert str(read(file).tables["headline"].rows[0].values[0]) == "3.70"
