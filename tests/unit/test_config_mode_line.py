"""One line of a site's portward.toml is changed, and nothing else of it."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.config.mode_line import MODES, ModeLineError, write_mode

SHIPPED = (Path(__file__).resolve().parents[2] / "correlator/config/portward.toml").read_text()


def test_the_shipped_file_changes_in_one_line():
    """Every comment stays where it was."""
    changed = write_mode(SHIPPED, "block")
    pairs = zip(SHIPPED.splitlines(), changed.splitlines(), strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [('mode = "observe"', 'mode = "block"')]
    assert write_mode(changed, "observe") == SHIPPED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 'mode = "block"\n\n'),
        ("# mine", '# mine\nmode = "block"\n\n'),
        ("mode='observe' # why\n", 'mode="block" # why\n'),
        ('#mode = "observe"\n[probe]\n', '#mode = "observe"\nmode = "block"\n\n[probe]\n'),
        ('enabled = ["sshd"]\n[jail.a]\nmode = "observe"\n', None),
        ('mode = "block"', 'mode = "block"'),
    ],
)
def test_the_line_is_found_or_added_before_the_first_table(text, expected):
    """A jail's own mode, a comment and a file without a line end are none of ours."""
    changed = write_mode(text, "block")
    if expected is not None:
        assert changed == expected
    assert tomllib.loads(changed) == {**tomllib.loads(text), "mode": "block"}


@pytest.mark.parametrize(
    "text", ['mode = """\nobserve"""\n', '"mode" = "observe"\n', 'a = """\nmode = "x"\n"""\n']
)
def test_what_is_written_in_another_way_is_left_to_a_person(text):
    """Rather no change than another one."""
    with pytest.raises(ModeLineError, match="by hand"):
        write_mode(text, "block")


@given(
    st.dictionaries(
        st.text("abcdemo-_", min_size=1, max_size=6),
        st.one_of(st.booleans(), st.integers(), st.just("observe")),
    ),
    st.sampled_from(MODES),
)
def test_any_settings_keep_their_values(values, mode):
    """Whatever else stands there, only the mode is another."""
    lines = [
        f"{key} = {str(value).lower() if not isinstance(value, str) else repr(value)}"
        for key, value in values.items()
    ]
    if not isinstance(values.get("mode", ""), str):
        return
    text = "\n".join(lines)
    assert tomllib.loads(write_mode(text, mode)) == {
        **values,
        **({"mode": mode} if values.get("mode", "observe") != mode else {}),
    }
