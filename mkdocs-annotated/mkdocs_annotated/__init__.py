r"""
# mkdocs-annotated

A MkDocs plugin and theme that lays a Python package out as an article: comments, docstrings
and equations on the left, the code they speak of on the right, line numbers as in the file.

Data flows one way, and every step but the last is a pure function:

* [parse](parse.py) reads source text into rows of prose and code; nothing is imported or run
* [prose](prose.py) joins the prose of all rows to one Markdown document, and splits the HTML again
* [math](math.py) and [markup](markup.py) extend Markdown: LaTeX, links, lists, and what is escaped
* [code](code.py) colours the code, keeping every character
* [names](names.py) finds every name of the code and, with [scopes](scopes.py), who binds it
* [links](links.py) knows where names are defined, [references](references.py) links those in prose
* [symbols](symbols.py) reads which names stand for which symbols, and [equations](equations.py)
  finds the symbols in MathML; [apparatus](apparatus.py) holds both for the pages
* [trace](trace.py), a command apart from the build, writes [shapes](shapes.py) in the letters of
  [sizes](sizes.py); with [exhibits](exhibits.py) they are what stands [beside](beside.py) the code
* [page](page.py) lays prose and code side by side; it alone writes the HTML of source pages
* [search](search.py) collects what the search looks through, [blocks](blocks.py) what readers copy
* [coverage](coverage.py) reads the map of a paper and makes its page
* [difference](difference.py) shows two sources side by side; [align](align.py) pairs their lines
* [yamlfile](yamlfile.py) reads hand-written YAML with the lines of its mistakes
* [minify](minify.py) shortens style and script
* [article](article.py) is a module on its way to its page, [addresses](addresses.py) turns links
  between files into links between pages, [options](options.py) is what the configuration may say
* [plugin](plugin.py) is the thin adapter that MkDocs talks to, with [sources](sources.py) naming
  the files and [publish](publish.py) guarding the last good site
"""

__version__ = "0.1.0"
