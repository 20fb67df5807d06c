r"""
# mkdocs-annotated

A MkDocs plugin and theme that lays a Python package out as an article: comments, docstrings
and equations on the left, the code they speak of on the right, line numbers as in the file.

Data flows one way, and every step but the last is a pure function:

* [parse](source/parse.py) reads source text into rows of prose and code; nothing is imported or run
* [prose](markdown/prose.py) joins the prose of all rows to one Markdown document, and splits the
  HTML again
* [math](markdown/math.py) and [markup](markdown/markup.py) extend Markdown: LaTeX, links, lists,
  and what is escaped
* [code](source/code.py) colours the code, keeping every character
* [names](source/names.py) finds every name of the code and, with [scopes](source/scopes.py), who
  binds it
* [links](site/links.py) knows where names are defined, [references](markdown/references.py) links
  those in prose
* [symbols](site/symbols.py) reads which names stand for which symbols, and
  [equations](markdown/equations.py) finds the symbols in MathML;
  [apparatus](site/cross_references.py) holds both for the pages
* [trace](beside/trace.py), a command apart from the build, writes [shapes](beside/shapes.py) in the
  letters of [sizes](beside/sizes.py); with [exhibits](beside/exhibits.py) they are what stands
  [beside](beside/beside.py) the code
* [page](pages/page.py) lays prose and code side by side; it alone writes the HTML of source pages
* [search](site/search.py) collects what the search looks through, [blocks](source/blocks.py) what
  readers copy
* [coverage](site/coverage.py) reads the map of a paper and makes its page
* [difference](markdown/difference.py) shows two sources side by side; [align](markdown/align.py)
  pairs their lines
* [yamlfile](source/yaml_file.py) reads hand-written YAML with the lines of its mistakes
* [minify](pages/minify.py) shortens style and script
* [article](pages/article.py) is a module on its way to its page, [addresses](site/addresses.py)
  turns links between files into links between pages, [options](options.py) is what the
  configuration may say
* [plugin](plugin.py) is the thin adapter that MkDocs talks to, with [sources](source/files.py)
  naming the files and [publish](pages/publish.py) guarding the last good site
"""

__version__ = "0.1.0"
