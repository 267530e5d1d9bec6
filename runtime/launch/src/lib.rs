//! carries out a plan: zygote and workers; the only crate that knows libcontainer
