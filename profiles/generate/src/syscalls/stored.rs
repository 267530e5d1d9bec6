//! A [`Summary`] as it is kept: a mark, the hash of what follows, and the summary in postcard's format.
//!
//! Invariant: what is read is what was written, and refers to nothing outside of itself; anything else is nothing, and
//! the file is looked at again.

use sha2::{Digest as _, Sha256};

use super::summary::{Function, Summary, Target};

const MARK: &[u8; 8] = b"bhsum\0\0\x01";
const HASH_BYTES: usize = 32;

/// Nothing where it cannot be written: it is then not kept.
pub(crate) fn bytes(summary: &Summary) -> Option<Vec<u8>> {
    let body = postcard::to_allocvec(summary).ok()?;
    let mut bytes = Vec::with_capacity(MARK.len() + HASH_BYTES + body.len());
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    Some(bytes)
}

/// Nothing where the bytes are not whole.
pub(crate) fn read(bytes: &[u8]) -> Option<Summary> {
    let (hash, body) = bytes.strip_prefix(MARK)?.split_at_checked(HASH_BYTES)?;
    if Sha256::digest(body).as_slice() != hash {
        return None;
    }
    let (summary, rest) = postcard::take_from_bytes::<Summary>(body).ok()?;
    (rest.is_empty() && refers_within(&summary)).then_some(summary)
}

/// Whether each number is that of a function or of an import of the summary.
fn refers_within(summary: &Summary) -> bool {
    let Summary {
        functions, imports, exports, roots, root_imports, bound, resolvers, entry, stretches, ..
    } = summary;
    let is_function = |number: &u32| (*number as usize) < functions.len();
    let is_import = |number: &u32| (*number as usize) < imports.len();
    let is_target = |target: &Target| match target {
        Target::Own(number) => is_function(number),
        Target::Import(number) => is_import(number),
    };
    let is_whole = |function: &Function| {
        function.calls.iter().all(|call| is_target(&call.to))
            && function.taken.iter().all(|(target, _)| is_target(target))
    };
    functions.iter().all(is_whole)
        && exports.iter().all(|(_, number)| is_function(number))
        && roots.iter().chain(resolvers).chain(entry).all(is_function)
        && root_imports.iter().chain(bound).all(is_import)
        && stretches
            .iter()
            .all(|data| data.roots.iter().all(is_function) && data.imports.iter().all(is_import))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::syscalls::summary::{Call, Value};

    fn summary(to: u32) -> Summary {
        let call = Call { to: Target::Own(to), args: vec![(7, Value::One(1))], when: Vec::new() };
        let function = Function { address: 0x40, calls: vec![call], ..Function::default() };
        Summary { functions: vec![function], exports: vec![("one".to_owned(), 0)], ..Summary::default() }
    }

    #[test]
    fn what_was_kept_is_read_again() {
        let read = read(&bytes(&summary(0)).unwrap()).unwrap();
        assert_eq!(read.functions[0].calls, summary(0).functions[0].calls);
        assert_eq!(read.exports, summary(0).exports);
    }

    #[test]
    fn a_kept_summary_with_any_byte_changed_or_cut_off_is_none() {
        let whole = bytes(&summary(0)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_none(), "byte {at}");
            assert!(read(&whole[..at]).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn a_kept_summary_that_refers_to_a_function_that_is_not_there_is_none() {
        assert!(read(&bytes(&summary(1)).unwrap()).is_none());
    }
}
