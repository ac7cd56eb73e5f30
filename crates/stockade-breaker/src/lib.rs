//! A tower layer that stops calling a service which fails, and probes it until it has recovered.
