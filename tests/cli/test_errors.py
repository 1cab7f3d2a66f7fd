"""Mistakes at the command line: exit code 2, one clear line each on stderr, no traceback, before any trial runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as CliResult

Cli = Callable[..., CliResult]

GOOD = 'class Mine(Policy):\n    """Mine."""\n    rules = [on(BACKING).do(UNMAP)]\n'


def policy(*rules: str, before: str = "") -> str:
    """Body of a policy file with these rules."""
    return f'class Mine(Policy):\n    """Mine."""\n{before}    rules = [{", ".join(rules)}]\n'


def coded(*lines: str, arguments: str = "c, p") -> str:
    """Body of a policy file that answers in code."""
    body = "".join(f"        {line}\n" for line in lines)
    return f'class Mine(Policy):\n    """Mine."""\n\n    @staticmethod\n    def decide({arguments}):\n{body}'


END = "on(BACKING).do(UNMAP)"

# name: body of mine.py, what follows its path, what must be said. Each of these is found before any trial runs.
MISTAKES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "open case": (policy("on('>BASE').do(SPLIT)"), "", ("rules leave one case open: poison in a 4K leaf",)),
    "open case behind a guard": (
        policy("on(BACKING, when='hits_in_vm > 3').do(UNMAP)"),
        "",
        ("rules leave one case open: poison in a 1G leaf",),
    ),
    "open case without spares": (policy("on(BACKING).do(MIGRATE)"), "", ("one case open", "MIGRATE")),
    "shadowed rule": (policy(END, "on(BACKING).do(KEEP)"), "", ("rule 2 is dead: on(BACKING): KEEP",)),
    "unreachable size": (policy(END, "on('2M').do(UNMAP)"), "", ("rule 2 is dead: on(2M): UNMAP",)),
    "guard that never holds": (
        policy("on(BACKING, when='age_days > 9999').do(MIGRATE)", END),
        "",
        ("the guard on age_days can never hold", "between 0 and 1826"),
    ),
    "contradictory guard": (
        policy("on(BACKING, when='hits_in_vm < 3 and hits_in_vm > 5').do(KEEP)", END),
        "",
        ("the guard on hits_in_vm can never hold",),
    ),
    "unknown counter": (
        policy("on(BACKING, when='hits_in_regoin > 3').do(KEEP)", END),
        "",
        ("unknown counter 'hits_in_regoin'; did you mean hits_in_region?",),
    ),
    "no guard": (policy("on(BACKING, when='often').do(KEEP)", END), "", ("guard 'often' is not `counter operator",)),
    "unknown parameter in a guard": (
        policy("on(BACKING, when='hits_in_vm > limit').do(KEEP)", END),
        "",
        ("'limit' is neither a number nor a parameter",),
    ),
    "SPLIT at the base page": (
        policy("on('>BASE').do(SPLIT)", "on(BASE).do(SPLIT)"),
        "",
        ("SPLIT at the base page 4K", "use UNMAP or KEEP"),
    ),
    "SPLIT_TO a larger size": (
        policy("on(BACKING).do(SPLIT)", "on('2M').do(SPLIT_TO('1G'))", "on(BASE).do(UNMAP)"),
        "",
        ("a 2M leaf cannot be split to 1G",),
    ),
    "no such size": (policy("on('3M').do(UNMAP)", END), "", ("'3M' is no leaf size of x86-64",)),
    "no action": (policy("on(BACKING).do('UNMAPS')"), "", ("'UNMAPS' is not an action",)),
    "action as text": (policy("on(BACKING).do('UNMAP')"), "", ("'UNMAP' is text; write UNMAP without quotes",)),
    "no rules": (policy(), "", ("it has no rules",)),
    "parameter out of range": (
        policy(END, before="    limit: Annotated[int, Range(1, 9)] = 3\n"),
        ":limit=10",
        ("limit = 10 is not a whole number from 1 to 9",),
    ),
    "unknown parameter": (
        policy(END, before="    limit: int = 3\n"),
        ":limti=4",
        ("unknown parameter 'limti'; did you mean limit?",),
    ),
    "parameter that is no number": (
        policy(END, before="    limit: int = 3\n"),
        ":limit=many",
        ("parameter 'limit=many' is not name=whole-number",),
    ),
    "parameter given twice": (
        policy(END, before="    limit: int = 3\n"),
        ":limit=4,limit=5",
        ("parameter 'limit' is given twice",),
    ),
    "default out of range": (
        policy(END, before="    limit: Annotated[int, Range(1, 9)] = 30\n"),
        "",
        ("the default limit = 30 is not a whole number from 1 to 9",),
    ),
    "parameter without a default": (policy(END, before="    limit: int\n"), "", ("limit needs the annotation int",)),
    "name that is not imported": (
        policy("on(BACKING).do(Fraction)"),
        "",
        ("mine.py:8 raised NameError", "name 'Fraction' is not defined; mend the file"),
    ),
    "name that is misspelled": (policy("on(BACKING).do(UNMAPP)"), "", ("did you mean UNMAP? mend the file",)),
    "name of ours that is not imported": (
        "del UNMAP\n" + policy(END),
        "",
        ("name 'UNMAP' is not defined; add it to the imports: from poisonsim.policy import UNMAP",),
    ),
    "name that we do not have": (
        "from poisonsim.policy import EVACUAT\n",
        "",
        ("raised ImportError", "did you mean EVACUATE? poisonsim.policy has BACKING, "),
    ),
    "guard without quotes": (
        policy("on(BACKING, when=hits_in_region >= 2).do(UNMAP)"),
        "",
        ('a guard is text: write it in quotes, as in when="hits_in_region >= 2"',),
    ),
    "file that raises": ("x = 1\nraise ValueError('no luck')\n", "", ("mine.py:7 raised ValueError", "no luck")),
    "syntax error": ("class Mine(Policy:\n", "", ("mine.py:6 raised SyntaxError",)),
    "no class": ("x = 1\n", "", ("mine.py: 0 policy classes, one is needed",)),
    "two classes": (
        GOOD + GOOD.replace("Mine", "Other"),
        "",
        ("2 policy classes, one is needed (found: Mine, Other)",),
    ),
    "no such class": (GOOD, ":Other", ("no policy class 'Other' (found: Mine)",)),
    "decide and rules": (
        coded("return UNMAP") + "    rules = [on(BACKING).do(UNMAP)]\n",
        "",
        ("has both rules and decide; keep one of them",),
    ),
    "decide with wrong arguments": (
        coded("return UNMAP", arguments="counters"),
        "",
        ("decide must be a @staticmethod with the arguments (c, p)",),
    ),
    "decide that cannot be compiled": (coded("return open('x')"), "", ("mine.py", "cannot be compiled")),
}

# Found by the first trial in which it happens.
ANSWERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "decide answers MIGRATE without spares": (coded("return MIGRATE"), ("decide answered MIGRATE for a 1G leaf",)),
    "decide answers SPLIT at the base page": (coded("return SPLIT"), ("decide answered SPLIT for a 4K leaf",)),
    "decide answers 99": (coded("return 99"), ("decide answered 99 for a 1G leaf", "allowed: UNMAP, SPLIT")),
}

# What they should say is not settled, but they are the user's mistakes and must be called so.
UNSETTLED: dict[str, str] = {
    "do(...) forgotten": policy("on(BACKING)"),
    "one rule, no list": 'class Mine(Policy):\n    """Mine."""\n    rules = on(BACKING).do(UNMAP)\n',
    "rules as text": policy("'UNMAP'"),
    "guard that is a number": policy("on(BACKING, when=3).do(UNMAP)", END),
    "annotation that is not defined": policy(END, before="    limit: 'Annotated[int, Rnge(1, 2)]' = 1\n"),
    "mapping that does not exist": policy(END, before="    mapping = 'sharde'\n"),
    "file that ends the program": "import sys\nsys.exit(3)\n",
    "parameter that begins with an underscore": coded("return UNMAP").replace("\n    @", "    _n: int = 3\n\n    @"),
}


def refused(result: CliResult) -> str:
    """The errors of a command that did nothing but refuse."""
    crash = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    assert (result.exit_code, crash, result.stdout) == (2, "", "")
    assert "Traceback" not in result.stderr
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    return str(result.stderr)


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.engine import run

    def refuse(*_: object) -> None:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(run, "run_block", refuse)


# ------------------------------------------------------------------------------------------------- policies


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_policy_is_refused_before_any_trial(
    cli: Cli, policy_file: Callable[..., str], no_trials: None, name: str, tmp_path: Path
) -> None:
    body, tail, fragments = MISTAKES[name]
    policy_file(body)
    text = refused(cli("run", "--policy", f"./mine.py{tail}", "--policy", "hgm2m"))
    assert len(text.splitlines()) == 1
    assert [fragment for fragment in fragments if fragment not in text] == []
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", MISTAKES)
def test_policies_check_finds_the_same(cli: Cli, policy_file: Callable[..., str], name: str) -> None:
    body, tail, fragments = MISTAKES[name]
    policy_file(body)
    text = refused(cli("policies", "check", f"./mine.py{tail}"))
    assert [fragment for fragment in fragments if fragment not in text] == []


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_answer_is_refused_in_the_trial_where_it_is_given(
    cli: Cli, policy_file: Callable[..., str], name: str
) -> None:
    body, fragments = ANSWERS[name]
    policy_file(body)
    text = refused(cli("run", "--policy", "./mine.py", "--trials", "1000"))
    assert [fragment for fragment in (*fragments, "policy mine: ", "trial 0") if fragment not in text] == []


@pytest.mark.parametrize("name", UNSETTLED)
def test_other_wrong_policies_are_refused_too(
    cli: Cli, policy_file: Callable[..., str], no_trials: None, name: str
) -> None:
    policy_file(UNSETTLED[name])
    assert "mine" in refused(cli("run", "--policy", "./mine.py"))


def test_every_mistake_has_a_message_of_its_own(
    cli: Cli, policy_file: Callable[..., str], golden: Callable[[str, str], None]
) -> None:
    messages: dict[str, str] = {}
    for name, (body, tail, _) in MISTAKES.items():
        folder = re.sub(r"\W+", "-", name)
        path = policy_file(body, name=f"{folder}/mine")
        text = refused(cli("policies", "check", f"{path}{tail}"))
        messages[name] = text.replace(path, "mine.py").rstrip("\n")
    assert len({re.sub(r"on\([^:]*: \w+|\d+", "", message) for message in messages.values()}) >= len(messages) - 3
    golden("policy_errors", "".join(f"{name}\n  {message}\n" for name, message in messages.items()))


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("hgm2",), ("unknown policy 'hgm2'; did you mean hgm2m?", "a file works too")),
        (("hgm2m,hgm4k",), ("give each policy an option of its own: --policy hgm2m --policy hgm4k",)),
        (("./nowhere.py",), ("policy file nowhere.py does not exist",)),
        (("hgm2m", "hgm2m"), ("'hgm2m' is named twice; name each policy once",)),
        (("unmap1g", "unmap1g"), ("'unmap1g' is named twice",)),
        (("migrate1g:spares=-1",), ("spares = -1 is not a whole number from 0 to 65536",)),
        (("hgm2m:spares=1",), ("policy hgm2m: unknown parameter 'spares'; it has none",)),
    ],
)
def test_a_policy_that_is_not_there(
    cli: Cli, no_trials: None, arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    text = refused(cli("run", *(word for name in arguments for word in ("--policy", name))))
    assert [fragment for fragment in fragments if fragment not in text] == []


@pytest.mark.parametrize("name", ["my-mine", "my_mine", "./my_mine", "MyMine", "My_mine"])
def test_a_file_named_without_its_ending_is_suggested(
    cli: Cli, policy_file: Callable[..., str], no_trials: None, name: str
) -> None:
    policy_file(GOOD, name="my_mine")
    assert "./my_mine.py is a file here; name it as one: --policy ./my_mine.py" in refused(cli("run", "-p", name))


def test_all_that_the_host_lacks_is_in_one_line_to_add_and_then_it_runs(
    cli: Cli, policy_file: Callable[..., str], no_trials: None
) -> None:
    policy_file(policy("on_ce(BACKING).do(MIGRATE)", "on(BACKING).do(EVACUATE)", END))
    *_, last = refused(cli("run", "--policy", "./mine.py")).splitlines()
    wanted = (
        "--set faults.model=field --set host.ce_threshold=cec --set host.spare_hosts=1 --set host.moves_poison=true"
    )
    assert last == f"error: for a host that has all of it, add: {wanted}"
    assert cli("run", "--policy", "./mine.py", *wanted.split(), "--dry-run").exit_code == 0
    checked = cli("policies", "check", "./mine.py").stdout.splitlines()
    assert "  needs hosts to go to: host.spare_hosts of 1 or more (not so in seed-1t)" in checked
    assert "  takes spare huge pages, 4 here: host.spares, or mine:spares=N" in checked
    assert checked[-1] == f"run with    poisonsim run seed-1t --policy ./mine.py {wanted}"


def test_what_a_policy_needs_is_said_only_where_it_does(cli: Cli) -> None:
    told = cli("policies", "check", "unmap1g", "hgm-contig").stdout.splitlines()
    assert told[1:3] == ["  its memory is mapped shared: host.mapping", told[2]] and told[2].startswith(
        "hgm-contig: ok"
    )
    assert told[-1].startswith("not run in seed-1t: policy hgm-contig: it maps with contiguous entries, which x86-64")


def test_two_files_of_one_name(cli: Cli, policy_file: Callable[..., str], no_trials: None) -> None:
    for folder in ("a", "b"):
        policy_file(GOOD, name=f"{folder}/mine")
    text = refused(cli("run", "--policy", "a/mine.py", "--policy", "b/mine.py"))
    assert "two policies are called 'mine'" in text and "a/mine.py" in text and "b/mine.py" in text


def test_every_mistake_of_every_policy_is_reported_at_once(
    cli: Cli, policy_file: Callable[..., str], no_trials: None
) -> None:
    policy_file(policy("on('3M').do(UNMAP)", "on(BACKING, when='hitz > 3').do(KEEP)", END))
    text = refused(cli("run", "--policy", "./mine.py", "--policy", "hgm2m"))
    assert len(text.splitlines()) == 2
    assert len(refused(cli("run", "--policy", "hgm2", "--policy", "hgm3")).splitlines()) == 2


@pytest.mark.parametrize("command", ["show", "check"])
def test_policies_commands_refuse_too(cli: Cli, command: str) -> None:
    assert "did you mean hgm2m?" in refused(cli("policies", command, "hgm2"))
    assert "is not a scenario" in refused(cli("policies", command, "hgm2m", "--scenario", "seed-2t"))


@pytest.mark.parametrize("name", ["My-Policy", "3m", "a b", "../x", ""])
def test_a_policy_needs_a_name_that_a_file_can_have(cli: Cli, tmp_path: Path, name: str) -> None:
    assert "is not a policy name; use lower-case letters" in refused(cli("policies", "new", name))
    assert list(tmp_path.iterdir()) == []


def test_a_new_policy_does_not_overwrite_a_file(cli: Cli, policy_file: Callable[..., str]) -> None:
    path = Path(policy_file(GOOD))
    before = path.read_text()
    assert "mine.py exists already; choose another name" in refused(cli("policies", "new", "mine"))
    assert path.read_text() == before


# ------------------------------------------------------------------------------------------------- scenarios, folders


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("nope",), ("'nope' is not a scenario of the catalogue", "a file works too: ./nope.toml")),
        (("seed-1",), ("did you mean seed-1t",)),
        (("cloud-1t-ddr5",), ("did you mean cloud-1t-ddr4 or ddr5-1t?", "`poisonsim catalog list` says what")),
        (
            ("--set", "vm.memory=2TB"),
            ("the nearest whole number of them is: 1863GiB; memory comes in binary units, so write 2TiB",),
        ),
        (("--set", "host.cpu=genoa"), ("; did you mean zen4?",)),
        (("-p", "migrate1g:2"), ("write a parameter with its name, as in migrate1g:spares=2",)),
        (("--set", "vm.memory=1536"), ("a number alone is bytes: write 1536GiB",)),
        (("--set", "host.spares=4GiB"), ("'4GiB' is not a whole number; write the number alone",)),
        (
            ("--set", "faults.model=rate", "--set", "faults.ue_per_tib_year='66'"),
            ("'66' has no unit; write 66FIT, 66/y, or 66 as a number",),
        ),
        (("nowhere.toml",), ("nowhere.toml",)),
        (("--years", "0"), ("--years", "'0' is not a time above 0 and below 1000 years")),
        (("--years", "5m"), ("ambiguous",)),
        (("--set", "vm.memory=4T"), ("--set vm.memory: '4T' is ambiguous",)),
        (("--set", "vm.memry=4TiB"), ("--set vm.memry: unknown key; did you mean vm.memory?",)),
        (("--set", "vm.memory"), ("write key=value, such as vm.memory=8TiB",)),
        (("--set", "host.cpu=zen6"), ("did you mean zen",)),
        (("--set", "host.patrol=24"), ("--set host.patrol: 24 has no unit; write 24h, 7d or 1y",)),
        (("cloud-1t-ddr4", "--set", "faults.repair=7"), ("--set faults.repair: 7 has no unit; write 24h",)),
        (("cloud-1t-ddr4", "--set", "faults.ecc=none"), ('belongs to ue = "ecc", but ue is "empirical"',)),
        (("cloud-1t-ddr4", "--set", "faults.scale=0"), ("faults.scale: 0 leaves no fault to simulate",)),
        (("cloud-1t-ddr4", "--set", "faults.bad_batch=5%"), ("write 0.05 for 5 %",)),
        (("cloud-1t-ddr4", "--set", "faults.map=a\0.toml"), ("no path has a NUL character",)),
        (("cloud-1t-ddr4", "--set", "faults.map=skx-open-6ch:ranks=" + "2" * 5000), ("is not from 1 to 16",)),
        (("cloud-1t-ddr4", "--set", "faults.laws=./gone.toml"), ("cannot be read", "tried /")),
        (("cloud-1t-ddr4", "--set", "faults.map={a=1}"), ("is not text; write a name of the catalogue",)),
        (("--set", "host.ce_threshold=cec"), ("goes with faults.model", 'not "count"')),
        (("cloud-1t-ddr4", "--set", "host.ce_threshold=ce"), ("host.ce_threshold: 'ce' is not one of off, ",)),
        (("a\0.toml",), ("no path has a NUL character",)),
        ((".",), (".: is a directory; name a TOML file in it",)),
        (("--set", "faults.errors=-1"), ("faults.errors",)),
        (("seed-1t-distinct", "--set", "faults.errors=1025"), ("do not fit in distinct regions",)),
        (("--seed", str(2**64)), ("seed = 18446744073709551616 is not a whole number",)),
    ],
)
def test_a_wrong_scenario_is_refused(
    cli: Cli, no_trials: None, arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    text = refused(cli("run", *arguments))
    assert [fragment for fragment in fragments if fragment not in text] == []


def test_the_problems_of_a_map_are_a_line_each(cli: Cli, no_trials: None, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[hush]\nx = 1\n")
    text = refused(cli("run", "cloud-1t-ddr4", "--set", "faults.map=./mine.toml"))
    assert text.splitlines() == [
        "error: --set faults.map: ./mine.toml: hush: unknown key; did you mean hash?",
        "error: --set faults.map: ./mine.toml: bits: missing; write [bits.column], [bits.row], ... or [order]",
    ]


@pytest.mark.parametrize("place", ["file/run", "file", "x" * 300])
def test_a_folder_that_cannot_be_written_is_refused(cli: Cli, no_trials: None, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    refused(cli("run", "--out", place))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


def test_a_folder_that_holds_another_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("run", "--policy", "hgm2m", "--trials", 1000, "--no-report", "--out", "a").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    text = refused(cli("run", "--policy", "hgm4k", "--trials", 1000, "--no-report", "--out", "a"))
    assert "a: holds another run" in text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_report_of_nothing_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "nowhere: does not exist" in refused(cli("report", "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "no run folder" in refused(cli("report", "empty"))


def test_a_damaged_run_has_no_report(cli: Cli, tmp_path: Path) -> None:
    cli("run", "--policy", "hgm2m", "--trials", 1000, "--no-report", "--out", "a")
    next((tmp_path / "a" / "blocks").iterdir()).write_bytes(b"")
    assert "missing or damaged; run the same command again" in refused(cli("report", "a"))
    (tmp_path / "a" / "run.json").write_text("{")
    assert "run.json: cannot be read as JSON" in refused(cli("report", "a"))


def test_an_unknown_catalogue_entry_is_refused(cli: Cli) -> None:
    text = refused(cli("catalog", "show", "zen6"))
    assert "'zen6' is not in the catalogue; did you mean zen" in text and "`poisonsim catalog list` shows all" in text


# ------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("run", "--trials", "0"), "--trials"),
        (("run", "--trials", "many"), "'many' is not a whole number; write it in digits, such as 20000"),
        (("run", "--trials", "10k"), "'10k' is not a whole number; write 10000"),
        (("run", "-n1.5M"), "'1.5M' is not a whole number; write 1500000"),
        (("plan", "--trials=1e5"), "'1e5' is not a whole number; write 100000"),
        (("run", "cloud-1t-ddr4", "hgm2m"), "policies are named by an option: --policy hgm2m"),
        (("sweep", "seed-1t", "migrate1g:spares=2", "./a.py"), "--policy migrate1g:spares=2 --policy ./a.py"),
        (("life", "a", "b"), "quote a value with a blank in it"),
        (("run", "--threads", "0"), "--threads"),
        (("run", "--seed", "-1"), "--seed"),
        (("run", "--vms", "0"), "--vms"),
        (("run", "--polcy", "hgm2m"), "--polcy"),
        (("run", "--policy"), "--policy"),
        (("run", "seed-1t", "seed-1t"), "seed-1t"),
        (("frobnicate",), "frobnicate"),
        (("policies", "show"), "NAME"),
        (("policies", "frob"), "frob"),
        (("report",), "RUN"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_names_the_word(cli: Cli, arguments: tuple[str, ...], fragment: str) -> None:
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert isinstance(result.exception, SystemExit)
    assert fragment in result.stderr and "Error" in result.stderr


def test_a_mistake_in_a_process_has_no_traceback_either(policy_file: Callable[..., str], tmp_path: Path) -> None:
    policy_file("raise ValueError('no luck')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "poisonsim", "run", "--policy", "./mine.py"],
        text=True, capture_output=True, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: mine.py:6 raised ValueError on import: no luck; mend the file\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "two.html"), "two.html: is a file; give the run folder"),
        (("compare", "two.html"), "two.html: is a file; give the run folder"),
        (("report", "bare"), "its run.json is gone, but blocks are here; run the same command again with --out bare"),
        (("run", "--seed", "-1"), "-1 is not a whole number from 0"),
        (("metrics",), "poisonsim help metrics"),
        (("catalog", "show"), "`poisonsim catalog list` lists what there is"),
        (("policies", "show"), "`poisonsim policies list` lists what there is"),
        (("run", "mine.py"), "a scenario is TOML; name a policy with --policy mine.py"),
        (("sweep", "--over", "vm.memory=1,2"), "a number alone is bytes: write 1TiB"),
        (("run", "--set", "vm.arch=arm64-64k", "--set", "vm.backing=512M"), "name a CPU of arm64: neoverse-n1, "),
        (("replay", "log.csv", "--base", "5x"), "error: --base: '5x' has unknown unit"),
        (("replay", "log.csv", "--impute", "nome"), "error: --impute: 'nome' is not one of"),
        (("replay", "log.csv", "--format", "csv"), "it takes kind, and as far as they are known time, host"),
        (("splits", "--guest-page", "3M"), "error: --guest-page: '3M' is no page size"),
        (("splits", "--cpu", "zen4", "--cpu", "zen4"), "error: --cpu: zen4, zen4: one of them is named twice"),
    ],
)
def test_what_a_newcomer_trips_over_says_what_to_write(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare" / "blocks").mkdir(parents=True)
    for name, text in {"two.html": "", "mine.py": "", "log.csv": "a,b,c\n1,2,3\n"}.items():
        (tmp_path / name).write_text(text)
    result = cli(*arguments)
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert result.exit_code == 2 and message in told, told
