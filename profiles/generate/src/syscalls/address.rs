//! Sets and maps of addresses.

/// Addresses spread by themselves; a file that has them collide costs its own analysis time, which is bounded.
pub(crate) type Plain = std::hash::BuildHasherDefault<Address>;

#[derive(Default)]
pub(crate) struct Address(u64);

impl std::hash::Hasher for Address {
    fn finish(&self) -> u64 {
        // The table takes its place from the lower bits, which in addresses are aligned, and so are those of a product.
        let product = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ (product >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, address: u64) {
        self.0 = address;
    }
}

pub(crate) type AddressMap<V> = std::collections::HashMap<u64, V, Plain>;
pub(crate) type AddressSet = std::collections::HashSet<u64, Plain>;
