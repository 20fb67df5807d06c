r"""One page, from a parsed module to its HTML, and the site folder that it is published to.

Read `article.py` first (a module before rendering), then `page.py` (the HTML of its rows).
`publish.py` replaces the old site once a build has succeeded.
"""
