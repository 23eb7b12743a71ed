"""How much of what a curation sees is kept aside for a person to look at."""

from isoflop.config.base import Config, Count, Whole


class SamplesConfig(Config):
    """Documents kept beside the dataset for `isoflop data inspect`: a few of each reason, cut short."""

    per_reason: Whole = 50
    """Documents of each reason for which a step drops, and of those that are kept."""
    failed: Whole = 1000
    """Documents of each reason that could not be read or extracted."""
    characters: Count = 2000
    """Of a document's text; of a failed one, bytes."""
    clusters: Whole = 50
    """Clusters of near-duplicates."""
    cluster_members: Count = 10
    """Documents of a cluster."""
