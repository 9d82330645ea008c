//! The one test binary.

mod generated;
