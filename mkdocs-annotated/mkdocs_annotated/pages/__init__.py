r"""Build the HTML of source pages, and publish the site.

Read `article.py` first (a module before rendering), then `page.py` (the HTML of its rows).
`publish.py` replaces the old site after a build has succeeded.
"""
