"""Reports: the page of one run, and the pages that compare runs.

# Reporting

* [run_page.py](run_page.py) writes the page of a run when it ends
* [records.py](records.py) reads the recorded runs of a study
* [tables.py](tables.py) compares them in Markdown tables
* [answers.py](answers.py) states the answer of each page in a sentence
* [charts.py](charts.py) writes line charts as SVG
* [pictures.py](pictures.py) draws loss curves and spatial matrices
* [scaling.py](scaling.py) tabulates and draws perplexity over model size
* [toeplitz_fraction.py](toeplitz_fraction.py) measures how close $W$ is to a Toeplitz matrix

Two commands use them: [report.py](../report.py) rewrites the pages of results, and each experiment
ends with the page of its run.
"""
