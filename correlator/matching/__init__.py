"""From lines to events: which lines can matter, which pattern understands one, what that can cost. Pure."""
