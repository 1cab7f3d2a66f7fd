"""Errors a user can act on, and warnings that travel with a result.

Every message says what is wrong with its value, where, what is allowed and what to do. It names arguments by the
options of the command line, which prints these without a traceback and exits with code 2; as text, which is what Python
shows, an error names the arguments of functions.
"""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Sequence

_LONGEST = 1500  # characters of a problem
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:[ =]('[^']*'|[\w./-]*[\d=./][\w./%-]*|[\w-]+(?=\)|$)))?")
_TWICE = re.compile(r"\b(\w+)=\[([^\]]*)\] \1=\[")
_FIRST_OPTION = re.compile(r"--([a-z][a-z-]*)(?::| (?=\S+: ))")
_LISTS = {
    "set": "overrides", "policy": "policies", "require": "levels", "hvo": "hvo", "host": "hosts", "metric": "metrics"
}  # fmt: skip
"""Options that are lists in Python, and what they are called there; the others are called alike."""


class PoisonsimError(Exception):
    """Base of every error that the user, not the program, can mend.

    Args:
        problems: One line per problem, each complete in itself. Control characters of what it quotes are escaped.

    Examples:
        >>> str(PoisonsimError("trials: -1 is not positive"))
        'trials: -1 is not positive'
        >>> print(PoisonsimError("no policy \x1b[2Jmine"))
        no policy \\x1b[2Jmine
        >>> print(PoisonsimError("--set vm.memry: unknown key; for example --set vm.memory=1TiB"))
        overrides: vm.memry: unknown key; for example overrides=["vm.memory=1TiB"]
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = tuple(_one_line(each) for each in ([problems] if isinstance(problems, str) else problems))
        super().__init__("\n".join(self.problems))

    def __str__(self) -> str:
        return "\n".join(map(in_python, self.problems))


def in_python(problem: str) -> str:
    """A problem with arguments named as in Python, where it names them by options; commands in it stay.

    Examples:
        >>> in_python("raise --trials, or say how many with --hosts 400")
        'raise `trials`, or say how many with hosts=400'
        >>> in_python("for example --set host.spare_hosts=1 --set host.hgm=true")
        'for example overrides=["host.spare_hosts=1", "host.hgm=true"]'
        >>> in_python("set host.cpu; run poisonsim verify --full")
        'set host.cpu; run poisonsim verify --full'
    """

    def argument(found: re.Match[str]) -> str:
        if "poisonsim " in found.string[: found.start()]:
            return found[0]
        option, value = found[1].replace("-", "_"), found[2] and found[2].strip("'")
        name = _LISTS.get(option, option)
        if value is None:
            return f"`{name}`"
        if option in _LISTS:
            return f'{name}=["{value}"]'
        return f"{name}={value}" if value.isdigit() else f'{name}="{value}"'

    rest, head = problem, ""
    if first := _FIRST_OPTION.match(problem):
        option = first[1].replace("-", "_")
        head, rest = f"{_LISTS.get(option, option)}:{' ' if first[0].endswith(' ') else ''}", problem[first.end() :]
    told = _OPTION.sub(argument, rest)
    while told != (told := _TWICE.sub(r"\1=[\2, ", told)):
        pass
    return head + told


def _one_line(problem: str) -> str:
    """`problem` without what would break its line or command a terminal, shortened where it quotes an input whole."""
    return _shortened(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in _shortened(problem))
    )


def _shortened(problem: str) -> str:
    return problem if len(problem) <= _LONGEST else f"{problem[: _LONGEST // 2]} ... {problem[-_LONGEST // 2 :]}"


class ScenarioError(PoisonsimError):
    """A scenario, catalogue entry or override that cannot be used."""


class PolicyError(PoisonsimError):
    """A policy that cannot be loaded, fails its static checks, or answers what the engine cannot do."""


class WorkerError(PoisonsimError):
    """Workers or a cluster that cannot be used, that were lost, or that would compute something else."""


class RunFolderError(PoisonsimError):
    """A run folder that cannot be read, written or trusted."""


class MetricError(PoisonsimError):
    """A metric name or expression that means nothing, or asks for a year that was not simulated."""


class FitError(PoisonsimError):
    """Data that cannot tell what was asked of them."""


class LogError(PoisonsimError):
    """A log that cannot be opened, is of no known format, or is not of the format it was said to be."""


class MachineError(PoisonsimError):
    """Something the machine a measurement runs on does not have, or does not allow."""


class TopicError(PoisonsimError):
    """Help on something that the manual does not speak of."""


class PoisonsimWarning(UserWarning):
    """Base of the warnings that are collected, printed once at the end and shown in the report."""


class FewTailTrials(PoisonsimWarning):
    """A quantile was asked for that too few trials lie beyond."""


class FewTrialsHit(FewTailTrials):
    """Too few trials have faults for intervals of means to hold the truth as often as they say."""


class ValueLeftOut(PoisonsimWarning):
    """A value that a swept key could have, and that the scenario cannot take."""


class RunFolderNotice(PoisonsimWarning):
    """A folder of a run, sweep or fleet was repaired, or keeps what it holds because that is more."""


class DamagedBlock(RunFolderNotice):
    """A file of a run folder that is no block of its run; the block is computed again."""


_NO_CALLERS = {"poisonsim", "functools", "contextlib"}


def warn(text: str, category: type[PoisonsimWarning]) -> None:
    """Warns at the line outside the package that led here, which is the one that the user can change."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NO_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


_PLAIN = (str, int, float, list, tuple, dict)


def shown(value: object) -> str:
    """`value` as a TOML file spells it, on one line, shortened.

    Examples:
        >>> shown(True), shown("a\\nb"), shown(1 << 200)
        ('true', "'a\\\\nb'", 'an integer of 201 bits')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = _spelled(value) if isinstance(value, _PLAIN) else " ".join(f"{type(value).__name__} {value}".split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _spelled(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # it holds an integer of thousands of digits
        return f"a {type(value).__name__} with an integer of thousands of digits"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The clause `; did you mean X?`, or an empty string where nothing known is close.

    Examples:
        >>> did_you_mean("hgm2", ["hgm2m", "unmap1g"])
        '; did you mean hgm2m?'
        >>> did_you_mean("zebra", ["hgm2m", "unmap1g"])
        ''
    """
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def no_such_policy(name: str, policies: Sequence[str], where: str = "this run") -> str:
    """That a policy is not there, and which are.

    Examples:
        >>> no_such_policy("hgm2", ["hgm2m", "unmap1g"])
        "policy 'hgm2' is not in this run; did you mean hgm2m?; it has hgm2m, unmap1g"
    """
    return f"policy '{name}' is not in {where}{did_you_mean(name, policies)}; it has {', '.join(policies)}"


def nearest(word: str, known: Sequence[str], *, most: int = 3) -> list[str]:
    """Names that are spelled like `word`, then those with a part of it (three letters or more) that these lack.

    Examples:
        >>> nearest("cloud-1t-ddr5", ["cloud-1t-ddr4", "ddr5-1t", "seed-1t"])
        ['cloud-1t-ddr4', 'ddr5-1t']
    """
    close = difflib.get_close_matches(word, known, n=most, cutoff=0.75)
    close = close or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    lacking = {part for part in word.split("-") if len(part) > 2} - {part for name in close for part in name.split("-")}
    shared = [name for name in known if lacking & set(name.split("-"))]
    return list(dict.fromkeys([*close, *shared]))[:most]
