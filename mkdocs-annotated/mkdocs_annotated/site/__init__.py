r"""Everything that needs all pages of a site at once: links, symbols, coverage and search.

Read `links.py` first: it indexes the definitions of all modules. `symbols.py` connects the symbols
of the paper with names in the code, and `cross_references.py` applies both to each page.
`addresses.py`, `coverage.py` and `search.py` can be read on their own.
"""
