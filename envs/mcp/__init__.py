"""Tools of MCP servers (Model Context Protocol) for the models of text environments."""
