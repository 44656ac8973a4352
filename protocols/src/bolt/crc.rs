//! Owns the CRC-32 (IEEE, as in zlib) of Bolt v2 frames: a pass over the bytes, and a patch for
//! when only four bytes changed. Refuses to know where the trailer is: the frame does.

/// The CRC-32 of `bytes`, by a pass over them.
pub fn of(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// What to XOR into a CRC when four bytes changed by `difference` (old XOR new, in the order on the
/// wire) and `bytes_behind` bytes follow them.
///
/// CRC is linear over GF(2): the CRCs of two messages of one length differ by the CRC, without its
/// initial and final inversion, of their difference. Leading zeros of that difference add nothing;
/// each byte behind multiplies by x^8.
pub fn difference(difference: [u8; 4], bytes_behind: u32) -> u32 {
    let mut remainder = u32::from_le_bytes(difference);
    // The difference itself is a message of four bytes, so it has been shifted by 32 bits already.
    remainder = multiply(remainder, POWERS[0][4]);
    for (powers, byte) in POWERS.iter().zip(bytes_behind.to_le_bytes()) {
        if byte != 0 {
            remainder = multiply(remainder, powers[byte as usize]);
        }
    }
    remainder
}

/// The product of two polynomials modulo the CRC's, both with x^0 in the highest bit.
const fn multiply(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1u32 << 31;
    while bit != 0 {
        // A mask instead of a branch: the bits are random, so a branch would be mispredicted.
        product ^= right & 0u32.wrapping_sub((left & bit != 0) as u32);
        right = (right >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(right & 1));
        bit >>= 1;
    }
    product
}

/// `POWERS[k][b]` is x^(8 * b * 256^k): the factor for `b * 256^k` bytes behind.
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    // x^8 with x^0 in the highest bit.
    let mut step = ONE >> 8;
    let mut k = 0;
    while k < 4 {
        let mut b = 1;
        while b < 256 {
            table[k][b] = multiply(table[k][b - 1], step);
            b += 1;
        }
        step = multiply(table[k][255], step);
        k += 1;
    }
    table
}

const ONE: u32 = 1 << 31;
const POLYNOMIAL: u32 = 0xedb8_8320;
