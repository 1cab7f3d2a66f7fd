"""One VM's life: every number comes from a step, and the whole is what the run says of that trial."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import poisonsim as ps
from poisonsim.errors import MetricError
from poisonsim.results.life import first_hit, life_of
from poisonsim.results.result import Result

POLICIES = ["unmap1g", "hgm4k", "hgm2m", "migrate1g:spares=2", "hgm2m-then-migrate:n=2", "collapse-nightly",
            "keep-mapped", "restart-after:n=2"]  # fmt: skip


@pytest.fixture(scope="module")
def res() -> Result:
    scenario = ps.load_scenario("bad-dimm", overrides=["faults.scale=3", "faults.service=left-in"])
    return ps.run(scenario, policies=POLICIES, trials=40, seed=4)


@pytest.mark.parametrize("policy", POLICIES)
def test_steps_add_up_to_what_the_run_says(res: Result, policy: str) -> None:
    samples = res.samples()
    rows = samples[samples["policy"] == policy].set_index("trial")
    for trial in rows.index[:12].tolist():
        life = life_of(res, trial, policy)
        assert [step.years for step in life.steps] == sorted(step.years for step in life.steps)
        for metric in life.metrics:
            total = life.start[metric.name] + math.fsum(step.changes.get(metric.name, 0.0) for step in life.steps)
            assert total == pytest.approx(life.end[metric.name], rel=1e-9, abs=1e-6), metric.name
            assert life.end[metric.name] == pytest.approx(rows.loc[trial, metric.name], rel=1e-12), metric.name


def test_every_error_is_a_step_and_says_where_it_struck(res: Result) -> None:
    life = life_of(res, first_hit(res), "hgm2m")
    errors = [step for step in life.steps if step.what == "error"]
    assert len(errors) == life.end["errors"] > 0
    assert all(step.region == step.page // 262_144 and step.found_by in ("read", "patrol") for step in errors)
    assert errors[0].leaf == "1G" and errors[0].acts == ("SPLIT_TO 2M", "SPLIT_TO 4K", "UNMAP")
    assert errors[0].changes["table_bytes"] == 16_752 and errors[0].changes["guest_lost_bytes"] == 4096


def test_the_death_of_a_guest_is_a_step() -> None:
    scenario = ps.load_scenario("seed-1t", overrides=["faults.errors=3", "vm.unrecoverable=0.5"])
    res = ps.run(scenario, policies=["hgm2m"], trials=20, seed=2)
    lives = [life_of(res, trial) for trial in range(20)]
    deaths = [sum(step.what == "guest dies" for step in life.steps) for life in lives]
    assert deaths == [life.end["vm_lost"] for life in lives] and 0 < sum(deaths) <= 20


def test_collapse_is_a_step_of_its_own() -> None:
    res = ps.run("seed-1t-distinct", policies=["collapse-nightly"], trials=2, seed=2)
    life = life_of(res, 1)
    assert life.steps[0].acts == ("SPLIT_TO 4K", "UNMAP") and life.steps[1].what == "timed rules"
    assert life.steps[1].acts == ("COLLAPSE",)
    assert life.steps[0].changes["table_bytes"] + life.steps[1].changes["table_bytes"] == 16_752


def test_words_and_data_say_the_same(res: Result) -> None:
    life = life_of(res, first_hit(res), "hgm2m")
    text = "\n".join(life.lines())
    assert f"trial {first_hit(res)} under hgm2m" in text and "SPLIT_TO 2M, SPLIT_TO 4K, UNMAP" in text
    assert "leaves 1G −1, 2M +511, 4K +511; guest lost +4 KiB; page tables +16.36 KiB" in text
    assert text.splitlines()[1].startswith("at the start   1,024 leaves of 1G; nothing lost; costs the host ")
    data = life.steps[0].to_dict()
    assert data["what"] == "error" and data["changes"]["table_bytes"] == 16_752


@pytest.mark.parametrize("policy", ["hgm2m", "keep-mapped", "restart-after:n=2"])
def test_the_words_of_every_policy_are_short_and_name_its_end(res: Result, policy: str) -> None:
    life = life_of(res, first_hit(res), policy)
    lines = list(life.lines())
    assert max(map(len, lines)) <= 118 and not [line for line in lines if "_bytes" in line or " 1 UEs" in line]
    end = " ".join(" ".join(lines).partition("at the end")[2].split())
    assert f"{life.end['leaves_1g']:,.0f} leaves of 1G" in end or life.end["leaves_1g"] == 0
    assert (" VM lost" in end) == bool(life.end["vm_lost"]) and "without errors" in end


def test_the_words_say_what_follows_a_loss() -> None:
    for on_loss, words in (("count", "the loss is counted and its memory goes on"), ("end", "its life ends here")):
        scenario = ps.load_scenario("seed-1t-distinct", overrides=[f"vm.on_loss={on_loss}"])
        text = "\n".join(life_of(ps.run(scenario, policies=["unmap1g"], trials=3), 0).lines())
        assert f"the guest dies of it; {words} (vm.on_loss = {on_loss})" in " ".join(text.split())


def test_steps_in_a_row_that_change_nothing_are_one_line(res: Result) -> None:
    lives = [life_of(res, trial, "unmap1g") for trial in range(20)]
    life = max(lives, key=lambda life: life.n_steps)
    lines = list(life.lines())
    folded = [int(line.split()[2].replace(",", "")) for line in lines if "that change nothing" in line]
    told = sum(line.startswith("day") for line in lines) - len(folded)
    assert folded and min(folded) > 3 and told + sum(folded) == life.n_steps


def test_a_life_without_errors() -> None:
    res = ps.run("cloud-1t-ddr4", policies=["hgm2m"], trials=100, seed=1)
    life = life_of(res, 0)
    assert life.steps == () and list(life.lines()) == ["trial 0 under hgm2m: no error in its whole life"]


def test_the_first_steps_of_a_long_life_are_its_first_steps(res: Result) -> None:
    whole = life_of(res, first_hit(res), "hgm2m")
    for most in (0, 1, 5, whole.n_steps):
        cut = life_of(res, first_hit(res), "hgm2m", most=most)
        assert cut.steps == whole.steps[:most] and cut.n_steps == whole.n_steps == len(whole.steps)
        assert (cut.start, cut.end) == (whole.start, whole.end)
    told = list(life_of(res, first_hit(res), "hgm2m", most=1).lines())
    assert f"and {whole.n_steps - 1} more steps" in [line.strip() for line in told]


@pytest.mark.parametrize(
    ("trial", "policy", "message"),
    [
        (40, None, "trial 40 is not from 0 to 39, the trials of this run"),
        (-2, None, "trial -2 is not from 0 to 39"),
        (0, "hgm2n", "policy 'hgm2n' is not in this run; did you mean hgm2m"),
    ],
)
def test_what_the_run_does_not_have(res: Result, trial: int, policy: str | None, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        life_of(res, trial, policy)


def test_the_command(res: Result, tmp_path: Path, cli: object) -> None:
    folder = tmp_path / "run"
    ps.run("seed-1t-distinct", policies=["hgm2m"], trials=1000, seed=2, out=folder)
    shown = cli("life", str(folder), "--trial", "2")  # type: ignore[operator]
    assert shown.exit_code == 0 and "trial 2 under hgm2m: 10" in shown.stdout
    wrong = cli("life", str(folder), "--trial", "1000")  # type: ignore[operator]
    assert wrong.exit_code == 2 and "trial 1000 is not from 0 to 999" in wrong.stderr
    nothing = cli("life", str(tmp_path / "none"))  # type: ignore[operator]
    assert nothing.exit_code == 2 and "does not exist" in nothing.stderr
