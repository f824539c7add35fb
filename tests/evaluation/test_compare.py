"""`compare`: the paired difference of two entrants, from records."""

import pytest
from click.testing import CliRunner
from scipy import stats

from evaluation import records
from evaluation.compare import compare
from fewstep.__main__ import main
from fewstep.errors import UserError
from tests.evaluation.synthetic import collected, make_results, quality


@pytest.fixture(scope="module")
def tidy(tmp_path_factory):
    return collected(make_results(tmp_path_factory.mktemp("study"), seeds=(0,), baselines=("arc",)))


def point(entrant, nfe):
    model, solver = entrant.split("/")
    baseline, _, accelerator = model.partition("+")
    accelerator = accelerator or "none"
    keys = {"baseline": baseline, "accelerator": accelerator, "solver": solver, "kind": "entrant"}
    return keys | {"entrant": entrant, "nfe": nfe, "train_seed": 0}


def test_difference_is_the_paired_t_interval(tidy):
    a, b = "arc/heun", "arc/euler"
    table = compare(tidy, a, b)
    assert set(map(tuple, table[["dataset", "nfe"]].values)) == {(d, n) for d in ("glyphs", "rings") for n in (1, 2, 5)}
    for row in table.itertuples():
        gaps = [quality(point(a, row.nfe), k) - quality(point(b, row.nfe), k) for k in range(3)]
        low, high = stats.t.interval(0.95, 2, loc=sum(gaps) / 3, scale=stats.sem(gaps))
        assert (row.difference, row.low, row.high) == pytest.approx((sum(gaps) / 3, low, high))
        assert row.better == (a if high < 0 else b if low > 0 else "")
    swapped = compare(tidy, b, a)
    assert list(swapped["better"]) == list(table["better"])
    assert list(swapped["difference"]) == pytest.approx(list(-table["difference"]))


def test_filters_and_what_is_not_there(tidy):
    table = compare(tidy, "arc/heun", "arc/euler", dataset="rings", nfe=5, metric="ode_rmse")
    assert list(table["metric"]) == ["ode_rmse"] and list(table["nfe"]) == [5]
    with pytest.raises(UserError, match="did you mean 'arc/heun'"):
        compare(tidy, "arc/heum", "arc/euler")
    with pytest.raises(UserError, match="unknown dataset 'ring'; did you mean 'rings'"):
        compare(tidy, "arc/heun", "arc/euler", dataset="ring")


def test_command_prints_a_table_and_refuses_in_one_line(tidy, tmp_path):
    records.write(tidy, tmp_path)
    shown = CliRunner().invoke(main, ["compare", "arc/heun", "arc/euler", "--results", str(tmp_path)])
    assert shown.exit_code == 0 and "arc/heun minus arc/euler" in shown.output
    nowhere = CliRunner().invoke(main, ["compare", "a", "b", "--results", str(tmp_path / "none")])
    assert isinstance(nowhere.exception, UserError) and "run the study first" in str(nowhere.exception)
