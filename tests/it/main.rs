//! The one test binary.

mod model;
