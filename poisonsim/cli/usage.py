"""Commands whose complaints about usage say what to write instead."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

_LISTED = ("catalog", "policies")
"""Groups whose `list` names what an argument can be."""
_LEAST = re.compile(r"greater than or equal to (\d+)|x>=(\d+)")


class Command(TyperCommand):
    """A command that knows some slips: a policy without `--policy`, a number with a letter behind it, a name left out.

    What a wrong option or argument is called differs between versions of the parser, so that only its message is looked
    at.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parser does, with more in the message of what it refuses."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            message, param = getattr(error, "message", None), getattr(error, "param", None)
            if isinstance(message, str):
                error.message = self._said(message, param, given)  # type: ignore[attr-defined]
            group = ctx.parent.info_name if ctx.parent is not None else ""
            if param is not None and type(error).__name__ == "MissingParameter" and group in _LISTED:
                error.message = f"`poisonsim {group} list` lists what there is"  # type: ignore[attr-defined]
            raise

    def _said(self, message: str, param: Any, args: list[str]) -> str:
        """`message` with what to write, where that is known."""
        if "unexpected extra argument" in message:
            return f"{message}{self._more_arguments(message.rpartition('(')[2].rstrip(')').split())}"
        if param is not None and (bound := _LEAST.search(message)):
            text = _value_of(param.opts, args)
            return f"{text} is not a whole number from {bound[1] or bound[2]}" if text else message
        if param is not None and "valid integer" in message:
            text = _value_of(param.opts, args)
            return f"{text!r} is not a whole number; {_in_digits(text)}" if text else message
        return message

    def _more_arguments(self, words: list[str]) -> str:
        """What to do about arguments too many."""
        names = {option for param in self.params for option in param.opts}
        if "--policy" in names:
            from poisonsim.policy import policy_names

            if all(word.partition(":")[0] in policy_names() or word.endswith(".py") for word in words):
                return f"; policies are named by an option: {' '.join(f'--policy {word}' for word in words)}"
        return "; quote a value with a blank in it, and see the options with -h"


class Group(TyperGroup):
    """Commands of which an unknown one may be a topic of the manual."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the parser does, with the help on a topic in the message."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            from poisonsim.manual import topic_names

            message = getattr(error, "message", None)
            if isinstance(message, str) and args and args[0] in topic_names():
                told = f"{message} The manual has a page on it: poisonsim help {args[0]}"
                error.message = told  # type: ignore[attr-defined]
            raise


def _value_of(options: list[str], args: list[str]) -> str:
    """What was given for an option, as it was written; empty where that cannot be told."""
    for i, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in options:
            return value if equals else args[i + 1] if i + 1 < len(args) else ""
        if word[:2] in options and len(word) > 2:
            return word[2:]
    return ""


def _in_digits(text: str) -> str:
    """How to write the number that `text` may stand for.

    Examples:
        >>> _in_digits("10k"), _in_digits("1.5M"), _in_digits("1e6"), _in_digits("many")
        ('write 10000', 'write 1500000', 'write 1000000', 'write it in digits, such as 20000')
    """
    number, scale = text, 1
    if text[-1:] in "kKmM":
        number, scale = text[:-1], 1000 if text[-1] in "kK" else 1_000_000
    try:
        value = float(number.replace(",", "")) * scale
    except ValueError:
        return "write it in digits, such as 20000"
    return f"write {value:.0f}" if value.is_integer() and 0 <= value < 2**53 else "write a whole number, such as 20000"
