"""The help of a program: its groups and their options, read from the folder, without composing anything."""

from pathlib import Path

import yaml


def program_help(name: str, configs: Path) -> str:
    """What can be typed after `python launch/<name>.py`."""
    root = (configs / f"{name}.yaml").read_text()
    tree = yaml.safe_load(root)
    groups = [group for item in tree["defaults"] if isinstance(item, dict) for group in item]
    chosen = {
        group: option for item in tree["defaults"] if isinstance(item, dict) for group, option in item.items()
    }
    rows = []
    for group in groups:
        options = sorted(file.stem for file in (configs / group).glob("*.yaml"))
        if options:
            rows.append(f"  {group:<12}{' '.join(f'[{o}]' if o == chosen[group] else o for o in options)}")
    keys = [key for key in tree if key not in ("defaults", "hydra", *groups)]
    return "\n".join(
        [
            f"usage: python launch/{name}.py [-m] [group=option ...] [key=value ...]",
            "",
            "groups in configs/, the [default] in brackets:",
            *rows,
            "",
            f"keys: {', '.join(keys)}, and those of the groups, as in {_example(tree)}",
            "",
            "  --cfg job              the composed configuration, every key of it",
            "  -m key=a,b ...         a sweep: one run for each combination",
            "  --info defaults        where each part comes from",
            "  --hydra-help           completion in the shell, and all other flags",
        ]
    )


def _example(tree: dict[str, object]) -> str:
    """A key inside a group, as one writes it."""
    for group, value in tree.items():
        if isinstance(value, dict) and group != "hydra" and value:
            return f"{group}.{next(iter(value))}=…"
    return "group.key=…"
