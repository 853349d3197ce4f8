"""One module per research question, each ``run(config) -> result``, and the command line."""
