//! The token of a partition key under `Murmur3Partitioner`.
//!
//! Cassandra's hash is Murmur3 x64 128 with one slip that can never be mended: the last bytes, those that do
//! not fill a block of 16, are taken as signed.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The token of a partition key.
pub fn token(key: &[u8]) -> i64 {
    if key.is_empty() {
        return i64::MIN;
    }
    match hash(key).cast_signed() {
        i64::MIN => i64::MAX,
        token => token,
    }
}

fn hash(key: &[u8]) -> u64 {
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(u128::from_le_bytes(*block));
        h1 ^= mix1(k1);
        h1 = h1
            .rotate_left(27)
            .wrapping_add(h2)
            .wrapping_mul(5)
            .wrapping_add(0x52dc_e729);
        h2 ^= mix2(k2);
        h2 = h2
            .rotate_left(31)
            .wrapping_add(h1)
            .wrapping_mul(5)
            .wrapping_add(0x3849_5ab5);
    }
    let (mut k1, mut k2) = (0_u64, 0_u64);
    for (at, byte) in tail.iter().enumerate() {
        let signed = i64::from(byte.cast_signed()).cast_unsigned();
        match at {
            0..8 => k1 ^= signed << (8 * at),
            _ => k2 ^= signed << (8 * (at - 8)),
        }
    }
    h2 ^= mix2(k2);
    h1 ^= mix1(k1);
    h1 ^= key.len() as u64;
    h2 ^= key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2))
}

fn halves(block: u128) -> (u64, u64) {
    let high = u64::try_from(block >> 64).unwrap_or_default();
    let low = u64::try_from(block & u128::from(u64::MAX)).unwrap_or_default();
    (low, high)
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}
