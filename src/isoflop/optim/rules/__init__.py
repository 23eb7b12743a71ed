"""Update rules that torch does not have, one a file; built by the config of that name one folder up."""
