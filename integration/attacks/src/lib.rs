//! Only tests here: see `src/main.rs`, `src/outside` and `inside/src/techniques`.
#![forbid(unsafe_code)]
