//! A worker pool that is a tower service: a bounded queue and workers that pull from it.
