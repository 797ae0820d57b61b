"""Whole lives of blocks with several actions: commands that take their time, fail, are undone by other hands.

Whatever happened (deaths at any step of ours, between any two writes), once all is quiet again the model,
the rows, the kernel, what each action holds and the blocked file say the same, and nobody was told twice.
"""

from hypothesis import HealthCheck, settings

from tests.property.action_lives import ActionLife

TestLife = ActionLife.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
