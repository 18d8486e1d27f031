"""What a model can do: its computation, files, tokenizer and template, tried before training."""
