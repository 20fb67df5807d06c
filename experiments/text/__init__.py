"""Texts: sources, corpora, vocabularies, token files, training windows and evaluation."""
