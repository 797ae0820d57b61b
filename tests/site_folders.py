"""Folders of settings: what users write, and a site whose files all stand in the test's own folder."""

from correlator.config.site import load_site

PATHS = ("alert_log", "state", "run", "syslog", "ignore")
ENFORCER_PATHS = ("state", "run", "history", "blocked", "ignore", "alert_log")
KNOCK = """
[jail]
threshold = 4
span = "2m"
count = "distinct port"
[[pattern]]
name = 'x'
regex = '''^knock from (?P<source>\\S+)(?: at (?P<port>\\d+))?$'''
"""
"""A filter of a site that says itself when its jail decides."""


def write_site(folder, text, **files):
    """Return the site of a folder with this portward.toml and these files, e.g. `filters__mine_toml`."""
    (folder / "portward.toml").write_text(text)
    for name, content in files.items():
        path = folder / name.replace("jails__d", "jails.d").replace("__", "/").replace("_toml", ".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return load_site(folder)


def paths_table(folder, names=PATHS):
    """Return the table of portward.toml that has these files and folders of ours stand in `folder`."""
    return "[paths]\n" + "".join(f'{name} = "{folder}/{name}"\n' for name in names)
