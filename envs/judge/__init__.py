"""A language model behind HTTP as a source of rewards, by any OpenAI-compatible endpoint."""
