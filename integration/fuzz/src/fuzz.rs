//! libFuzzer's main: the target is named by `BULKHEAD_FUZZ_TARGET`.

#![no_main]
#![allow(missing_docs, reason = "the macro makes functions of its own")]

use std::{env, sync::OnceLock};

use bulkhead_fuzz::{Target, target};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = env::var("BULKHEAD_FUZZ_TARGET").unwrap_or_default();
        match target(&name) {
            Some(target) => target,
            None => panic!("BULKHEAD_FUZZ_TARGET is {name:?}, which is no target"),
        }
    });
    (target.run)(bytes);
});
