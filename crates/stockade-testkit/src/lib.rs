//! A contract suite that any tower layer can be run through.
