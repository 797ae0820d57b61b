"""What a source tells of itself when it cannot be read: waited for, refused, or something was lost before."""

NOT_THERE = "not there"


class Troubled:
    """A source that may be away for a while, and that may have lost something for good."""

    _trouble = ""
    """Why it cannot be read just now."""
    _loss = ""
    """What was lost last."""

    @property
    def trouble(self) -> str:
        """Why it cannot be read just now, else what was lost last; empty where all is well."""
        return self._trouble or self._loss

    @property
    def state(self) -> str:
        """`following`, `waiting` for it to appear, or `refused`: some of it at least."""
        return {"": "following", NOT_THERE: "waiting"}.get(self._trouble, "refused")
