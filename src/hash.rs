//! FNV-1a, 64 bits: a short hash that is the same on every platform. It names and compares; it protects from no attack. CRC-32,
//! which golden files hold.

const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The hash of bytes.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_words(bytes.iter().map(|&byte| u32::from(byte)))
}

/// The same hash with a 32-bit word per round; words below 256 are bytes.
pub fn fnv1a_words(words: impl IntoIterator<Item = u32>) -> u64 {
    words.into_iter().fold(START, |hash, word| (hash ^ u64::from(word)).wrapping_mul(PRIME))
}

/// CRC-32 as in zip and PNG files.
pub fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |rest, _| (rest >> 1) ^ if rest & 1 == 1 { POLYNOMIAL } else { 0 })
    });
    !bytes.iter().fold(u32::MAX, |crc, &byte| (crc >> 8) ^ table[((crc ^ u32::from(byte)) & 255) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        // The test vectors of Fowler, Noll and Vo.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!((crc32(b""), crc32(b"123456789")), (0, 0xcbf4_3926));
    }
}
