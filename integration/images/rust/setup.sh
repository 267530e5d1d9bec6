dir 755 0 /dev /proc /sys
"${RUSTC:-rustc}" --edition 2024 -O -C target-feature=+crt-static -C relocation-model=static -C strip=symbols -C panic=abort \
    -o "$root/server" integration/images/rust/server.rs
