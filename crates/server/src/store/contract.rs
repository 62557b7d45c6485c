//! What every store must do; written as one suite for all of them.
