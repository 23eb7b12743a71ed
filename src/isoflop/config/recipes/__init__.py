"""One file a recipe: the configuration that its file in `data_pipelines/` reads."""
