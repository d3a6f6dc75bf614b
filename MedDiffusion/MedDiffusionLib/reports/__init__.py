"""Reports as single pages: sections, tables and plots that any browser shows without network."""
