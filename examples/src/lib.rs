//! Runnable examples of stockade.
