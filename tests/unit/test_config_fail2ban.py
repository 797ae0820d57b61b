"""Fail2ban's filter files: the ini dialect, includes, both substitutions, and every fault with its place."""

import pytest

from correlator.config.fail2ban.expression_tags import expand_expression
from correlator.config.fail2ban.references import BadReferenceError, Reference, split_references
from correlator.config.filter_references import open_filter


def _filter(folder, text, options=None, **others):
    """Return the definition of `x.conf` with this text and its faults; `common_conf` names another file."""
    for name, content in {"x_conf": text, **others}.items():
        (folder / name.replace("_", ".")).write_text(content)
    return open_filter(str(folder / "x.conf"), options)


def _patterns(folder, text, options=None, **others):
    definition, faults = _filter(folder, text, options, **others)
    assert faults == []
    return [pattern.expression for pattern in definition.patterns]


def test_values_go_over_lines_and_comments_vanish(tmp_path):
    """A `;` after white space cuts the line, inside expressions too; `#` only where a line begins with it."""
    text = "[Definition]\nfailregex = ^a <IP4>\n   # no\n  ^b # <IP4> ; gone\n\n ^c\\;<IP4>\n"
    assert [pattern[:4] for pattern in _patterns(tmp_path, text)] == ["^a (", "^b #", "^c\\;"]


def test_a_percent_sign_is_written_twice(tmp_path):
    """What strptime's tokens need everywhere in these files."""
    definition, _ = _filter(tmp_path, "[Definition]\nfailregex = 100%% <IP4>\ndatepattern = ^%%H:%%M\n")
    assert definition.patterns[0].expression.startswith("100% ")
    assert definition.whole_lines.date_patterns == ("^%H:%M",)


def test_a_local_file_overrides_option_by_option_and_knows_what_was(tmp_path):
    """`%(known/x)s` is the value that was there before, one level deep."""
    assert _patterns(
        tmp_path,
        "[Definition]\nfailregex = ^a <IP4>\n",
        x_local="[Definition]\nfailregex = %(known/failregex)s\n  ^b <IP4>\n",
    ) == [expand_expression("^a <IP4>"), expand_expression("^b <IP4>")]


def test_includes_are_read_before_and_after_with_their_local_files(tmp_path):
    """The last file that says something wins; what is not there is passed over."""
    text = (
        "[INCLUDES]\nbefore = common.conf\nafter = late.conf\n  none.local\n"
        "[Definition]\nfailregex = <a><b><c><IP4>\n"
    )
    options = _patterns(
        tmp_path,
        text,
        common_conf="[DEFAULT]\na = 1\nb = 1\nc = 1\n",
        common_local="[DEFAULT]\nb = 2\n",
        late_conf="[DEFAULT]\nc = 3\n",
    )
    assert options == [expand_expression("123<IP4>")]


def test_init_and_parameters_win_over_the_definition_by_tag_but_not_by_percent(tmp_path):
    """The two substitutions look in different places: `%(q)s` in [Definition], `<q>` in [Init] first."""
    text = "[Definition]\nq = a\nfailregex = %(q)s<q><IP4>\n[Init]\nq = b\n"
    assert _patterns(tmp_path, text) == [expand_expression("ab<IP4>")]
    assert _patterns(tmp_path, text, {"q": "c"}) == [expand_expression("cc<IP4>")]


def test_the_innermost_tag_is_put_in_first(tmp_path):
    """`<mdre-<mode>>` is how filters choose; sections are reached by `<name/option>`."""
    text = (
        "[Definition]\nmode = normal\nfailregex = <re-<mode>>\nre-normal = ^n <IP4>\nre-ddos = <lt_<k>/e>\n"
        "k = x\n[lt_x]\ne = ^d <IP4>\n"
    )
    assert _patterns(tmp_path, text) == [expand_expression("^n <IP4>")]
    assert _patterns(tmp_path, text, {"mode": "ddos"}) == [expand_expression("^d <IP4>")]


def test_the_log_type_follows_the_backend_unless_the_filter_says_it(tmp_path):
    """Lines of the journal have another prefix."""
    text = "[Definition]\nfailregex = <logtype><IP4>\n"
    (tmp_path / "x.conf").write_text(text)
    journal, _ = open_filter(f"fail2ban:{tmp_path}/x.conf", is_journal=True)
    file, _ = open_filter(f"{tmp_path}/x.conf")
    chosen, _ = open_filter(f"{tmp_path}/x.conf[logtype=short]", is_journal=True)
    assert [f.patterns[0].expression[:5] for f in (journal, file, chosen)] == ["journ", "file(", "short"]


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("failregex = x\n", "x.conf:1: file", "a [section] first"),
        (
            "[Definition]\nfailregex = a\nfailregex = b\n",
            "x.conf:3: [Definition] failregex",
            "each option once",
        ),
        ("[Definition]\nfailregex\n", "x.conf:2: file", "option = value"),
        ("[Definition]\nfailregex = 5% <IP4>\n", "[Definition] failregex", "write %%"),
        ("[Definition]\nfailregex = %(none)s <IP4>\n", "[Definition] failregex", "%(none)s: no such option"),
        ("[Definition]\nfailregex = %(no/x)s <IP4>\n", "[Definition] failregex", "no section [no]"),
        ("[Definition]\nfailregex = %(failregex)s\n", "[Definition] failregex", "more than 10 levels"),
        ("[Definition]\nfailregex = <a><IP4>\na = <b>\nb = <a>\n", "[Definition] failregex", "<a>"),
        ("[Definition]\nmaxlines = 0\nfailregex = <IP4>\n", "maxlines", "a number from 1"),
        ("[Definition]\nfailregex = <IP4>(\n", "failregex 1", "unterminated"),
        ("[Definition]\nfailregex = <HOST><HOST>\n", "failregex 1", "redefinition"),
        ("[Definition]\nignoreregex = x\n", "failregex", "at least one expression"),
        ("[Definition]\nfailregex = nobody\n", "failregex", "<HOST>"),
        ("[Definition]\nfailregex = <IP4>\ndatepattern = %%q\n", "datepattern", "unknown token %q"),
        ("[Definition]\nfailregex = <IP4>\njournalmatch = nothing\n", "journalmatch", "FIELD=value"),
        ("[Init]\nx = 1\n", "[Definition]", "a section with a failregex"),
    ],
)
def test_each_fault_says_where_it_stands(tmp_path, text, where, expected):
    """A filter that cannot be read never becomes one that reads something else."""
    definition, faults = _filter(tmp_path, text)
    assert definition is None
    assert len(faults) == 1
    assert where in str(faults[0])
    assert expected in str(faults[0])


def test_a_failure_of_two_options_is_told_twice(tmp_path):
    """All faults at once."""
    _, faults = _filter(tmp_path, "[Definition]\nfailregex = %(a)s\nignoreregex = %(b)s\n")
    assert [fault.key for fault in faults] == ["[Definition] failregex", "[Definition] ignoreregex"]


def test_references_take_options_in_brackets():
    """Quoted values hold commas and brackets; several brackets add up; actions stand side by side."""
    text = "a[x=1, y=\"2, ]\"][z='3 '] b\n c[?] ".replace("[?]", '[k?family=inet6="v"]')
    assert list(split_references(text)) == [
        Reference("a", {"x": "1", "y": "2, ]", "z": "3"}),
        Reference("b", {}),
        Reference("c", {"k?family=inet6": "v"}),
    ]


@pytest.mark.parametrize("text", ["a[x", "a[x=1", "a[=1]", "[x=1]", "a[x=1]]"])
def test_what_is_no_reference_is_refused(text):
    """A jail with such a filter or action is not guessed at."""
    with pytest.raises(BadReferenceError):
        list(split_references(text))
