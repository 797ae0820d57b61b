"""Write the completion of bash, zsh and fish into a folder, from the parser of the command line.

    python3 docs/completion.py FOLDER

zsh by shtab. fish it cannot do, and Debian 12's version offers bash only the first of several words: both are
made here, of the same tables. Source: shtab's issue 86.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from correlator.cli import build_parser  # noqa: E402  it stands beside this folder, not on the path

_FILES = {"PATH", "FILE", "DIR", "FILE|DIR"}
_QUESTION = "__portward_at"
_FISH_HEAD = f"""\
# completion of portward for fish
function {_QUESTION} --description 'True where the words typed so far are these commands'
    set --local words
    for word in (commandline --tokens-expanded --cut-at-cursor --current-process 2>/dev/null;\
 or commandline -opc)[2..]
        string match --quiet -- '-*' $word; or set --append words $word
    end
    test (count $argv) -le (count $words); or return 1
    test (count $argv) -eq 0; or test "$words[1..$(count $argv)]" = "$argv"; or return 1
    test (count $argv) -gt 0; or test (count $words) -eq 0
end
complete --command portward --no-files
"""


_BASH = """\
# completion of portward for bash
declare -gA _portward_words=(
{words}
)
declare -gA _portward_values=(
{values}
)

_portward() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} at=portward word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
        if [[ -n ${{_portward_words["$at $word"]-}} ]]; then at+=" $word"; fi
    done
    local offered=${{_portward_values["$at $before"]-${{_portward_words[$at]}}}}
    mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$current")
}}

complete -o bashdefault -o default -F _portward portward
"""


def write_completions(folder: Path) -> None:
    """Write `portward.bash`, `_portward` (zsh) and `portward.fish` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    parser = build_parser()
    words, values = ("\n".join(lines) for lines in _bash_tables(parser))
    (folder / "portward.bash").write_text(_BASH.format(words=words, values=values), encoding="utf-8")
    zsh = shtab.complete(parser, "zsh").rstrip()
    (folder / "_portward").write_text(f"{zsh}\n", encoding="utf-8")
    lines = "\n".join(_fish_lines(parser, ()))
    (folder / "portward.fish").write_text(f"{_FISH_HEAD}{lines}\n", encoding="utf-8")


def _bash_tables(parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Return what each command takes, and what the options with a choice of values take."""
    words: list[str] = []
    values: list[str] = []
    taken: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found = _bash_tables(below)
                words += found[0]
                values += found[1]
        choices = " ".join(map(str, action.choices or ()))
        if not action.option_strings:
            taken.append(choices)
        elif action.nargs != 0:
            values += [f'    ["{parser.prog} {option}"]="{choices}"' for option in action.option_strings]
        taken += action.option_strings
    return [f'    ["{parser.prog}"]="{" ".join(filter(None, taken))}"', *words], values


def _fish_lines(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[str]:
    """Yield what completes after these commands, then after each command below them."""
    begin = f"complete --command portward --condition '{' '.join((_QUESTION, *words))}'"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name in action.choices:
                yield f"{begin} --arguments {name} --description {_quote(told.get(name, ''))}"
            for name, below in action.choices.items():
                yield from _fish_lines(below, (*words, name))
        elif action.option_strings:
            yield begin + "".join(_fish_option(action))
        elif action.choices or action.metavar in _FILES:
            yield begin + "".join(_fish_values(action))


def _fish_option(action: argparse.Action) -> Iterator[str]:
    for option in action.option_strings:
        kind = (
            "--long-option"
            if option.startswith("--")
            else "--old-option"
            if len(option) > 2
            else "--short-option"
        )
        yield f" {kind} {option.lstrip('-')}"
    if action.help:
        yield f" --description {_quote(action.help)}"
    if action.nargs != 0:
        yield " --require-parameter"
        yield from _fish_values(action)


def _fish_values(action: argparse.Action) -> Iterator[str]:
    if action.choices:
        yield f" --arguments {_quote(' '.join(map(str, action.choices)))}"
    elif action.metavar in _FILES:
        yield " --force-files"


def _quote(text: str) -> str:
    plain = text.replace("%%", "%")
    return "'" + plain.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    write_completions(Path(sys.argv[1]))
