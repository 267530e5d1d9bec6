#!/bin/sh
# rustc for the two programs that are installed: one whole, and linked statically. Set as RUSTC_WORKSPACE_WRAPPER by
# `make build`; every other crate is compiled as it is.
#
# Why statically: containerd starts its shims with LD_LIBRARY_PATH=/opt/containerd/lib: and the empty part after the colon
# is the working directory, a bundle. A program that loads no library looks nowhere; it starts in half the
# time; and the server need not be let read and execute /lib. It stays position independent.
# Why whole (fat LTO): a quarter less relocations, each of which is in memory that no two pods share.
#
# Where the C library is not there as an archive (glibc-static on Fedora), the programs are linked as usual.
case " $* " in
*" --crate-name containerd_shim_bulkhead_v2 "*" --crate-type bin "* | *" --crate-name bulkhead "*" --crate-type bin "*)
    set -- "$@" -C lto=fat -C codegen-units=1
    [ ! -e "$(cc -print-file-name=libc.a)" ] || set -- "$@" -C target-feature=+crt-static
    ;;
esac
exec "$@"
