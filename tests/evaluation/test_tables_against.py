"""Rows of ours set against each other below a published table: by how much, with which interval, and when not."""

from latex import problems
from one_table import ANALOGUE, MODELS, PLAN, RECORDS, fill, frame, rows

from evaluation.site.papers import read
from evaluation.tables.against import sentences
from evaluation.tables.sheet import sheet
from evaluation.tables.text import latex, markdown

PAIR = [
    {"label": "Heun", "entrant": "edm/heun", "values": [9.5, 2.0], "against": ["Euler", "Midpoint"]},
    {"label": "Euler", "entrant": "edm/euler", "values": [20.0, 3.0]},
    {"label": "Midpoint", "entrant": "edm/midpoint", "values": [9.0, 2.0], "against": "Euler"},  # never run
]


def said(records, **changes) -> list[str]:
    [filled] = fill(records, **{"rows": PAIR} | changes)
    return sentences(filled)


def test_rows_are_set_against_each_other_by_their_paired_difference():
    heun, euler = rows("edm/heun", 3, [9.0, 20.0, 31.0]), rows("edm/euler", 3, [10.0, 22.0, 33.0])
    three = frame(heun, euler, rows("edm/heun", 5, [3.0, 1.0, 5.0]), rows("edm/euler", 5, [2.0, 2.0, 2.0]))
    # NFE 3: -1, -2, -2, so 5/3 +- t_2 sqrt(1/3) / sqrt(3), though the blocks are 10 apart; NFE 5: 1, -1, 3.
    sentence, legend = said(three)
    assert sentence == (
        "Heun against Euler: NFE 3: better by 1.67 ± 1.43; NFE 5: can't be told apart (difference 1.00 ± 4.97)."
    )
    assert "over 3 seed blocks of one training" in legend and "on the same latents" in legend
    columns = [{"label": "IS", "metric": "inception_score", "nfe": 3}]
    upwards = three[three["nfe"] == 3].assign(metric="inception_score")
    [sentence, _] = said(upwards, columns=columns, rows=[row | {"values": [9.0]} for row in PAIR])
    assert sentence == "Heun against Euler: worse by 1.67 ± 1.43."  # higher is better, and one column needs no name


def test_the_interval_of_a_difference_is_over_training_seeds_where_there_are_several():
    gaps = {0: 1.0, 1: 2.0, 2: 3.0}  # 2 +- t_2 / sqrt(3)
    pairs = [
        rows(entrant, 3, [10.0 * seed + gap * (entrant == "edm/heun")] * 2, train_seed=seed)
        for seed, gap in gaps.items()
        for entrant in ("edm/heun", "edm/euler")
    ]
    sentence, legend = said(
        frame(*pairs), columns=[{"label": "FID", "nfe": 3}], rows=[r | {"values": [9]} for r in PAIR]
    )
    assert sentence == "Heun against Euler: can't be told apart (difference 2.00 ± 2.48)."
    assert "over 3 training seeds;" in legend


def test_one_value_each_gives_a_difference_and_no_judgement():
    records = MODELS.assign(dataset="digits")
    columns = [{"label": "bending", "metric": "curvature"}]
    models = [{"label": "RF", "entrant": "rf"}, {"label": "Bend", "entrant": "rf+bend", "against": "RF"}]
    [sentence, legend] = said(records, columns=columns, rows=models, confidence="missing")
    assert sentence == "Bend against RF: difference -0.125 of one value each." and "no interval" in legend


def test_nothing_is_said_of_what_did_not_run_or_of_an_entrant_and_itself():
    assert said(frame(rows("edm/heun", 3, [9.0, 9.1]))) == []
    failed = [row | {"status": "failed", "metric": "", "value": None} for row in rows("edm/euler", 3, [9.0, 9.1])]
    assert said(frame(rows("edm/heun", 3, [9.0, 9.1]), failed)) == []
    assert said(RECORDS, rows=[PAIR[0] | {"against": ["Euler"]}, PAIR[1] | {"entrant": "edm/heun"}]) == []


def test_comparisons_stand_below_the_table_on_the_analogue_too():
    small = frame(
        *(rows(e, 3, [v, v + 1], metric="w2", dataset="moons") for e, v in (("edm/heun", 2), ("edm/euler", 9)))
    )
    _, filled = fill(small, rows=PAIR, analogue=ANALOGUE)
    page = markdown(sheet(filled, PLAN))
    assert "- Heun against Euler: NFE 3: better by 7.00 ± 0." in page and page.count(" against ") == 1
    assert any(note.startswith("Heun against Euler") for note in read(page)["notes"])  # so the site shows it
    assert problems(latex(sheet(filled, PLAN))) == []
