"""The configuration of the repeated n-gram drop."""

from pydantic import Field

from isoflop.config.base import Config, Count


class RepeatedConfig(Config):
    """Documents in which a short sequence of tokens is repeated at once, again and again.

    They make a model's gradient norm spike; OLMo 2 leaves them out (OLMo et al. 2024, section 3.1).
    """

    max_period: Count = 13
    """The longest repeated sequence that is looked for, in tokens; the shortest is one token."""
    min_repeats: int = Field(default=32, ge=2)
    """So many copies, one straight after the other, drop the document."""
