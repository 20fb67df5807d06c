r"""Render prose as HTML: formulas, links, names in backticks, and compared code.

# Rendering Markdown

Most modules here are extensions of Python-Markdown. They render one page at a time. They may import
[source](../source/__init__.py), each other and [errors](../errors.py).

In reading order:

* [context](context.py) holds the state of the page being rendered, and collects its errors
* [prose](prose.py) joins the prose of all rows into one document and splits its HTML again
* [math](math.py) turns LaTeX into MathML
* [markup](markup.py) allows lists after text, resolves links, and rejects HTML that could run a
  script
* [references](references.py) turns names in backticks into links
* [equations](equations.py) finds symbols in MathML
* [difference](difference.py) compares the code of two sources, with [align](align.py)
"""
