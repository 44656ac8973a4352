//! Owns the CRC-32 (IEEE, as in zlib) of Bolt v2 frames: a pass over the bytes, and a patch for
//! when only four bytes changed. Refuses to know where the trailer is: the frame does.
//!
//! A rewritten id patches the trailer instead of passing over the frame again. Measured on one x86-64
//! core with carry-less multiplication, best of three runs, in ns (pass, patch, the patch by
//! `crc32fast`'s `combine`): 64 bytes 10, 30, 119; 300 bytes 21, 59, 91; 1 KiB 42, 59, 235; 4 KiB 93, 59, 291;
//! 64 KiB 1,134, 59, 409; 1 MiB 17,974, 86, 527. A pass is faster by up to 40 ns below some 1.5 KiB, and yet the
//! patch is always taken: its cost has a bound, it touches no cold byte, and it keeps damage visible
//! where verification is switched off, which a fresh CRC over a damaged frame would hide.

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
    // The register appends 32 zero bits, so the changed bytes are shifted by their own length too.
    let shift_bytes = u64::from(bytes_behind) + 4;
    for (powers, byte) in POWERS.iter().zip(shift_bytes.to_le_bytes()) {
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

/// `POWERS[k][b]` is x^(8 * b * 256^k): the factor for a shift by `b * 256^k` bytes. Five rows, since
/// four more than a u32 can say may be asked for.
static POWERS: [[u32; 256]; POWER_ROWS] = powers();

const fn powers() -> [[u32; 256]; POWER_ROWS] {
    let mut table = [[ONE; 256]; POWER_ROWS];
    // x^8 with x^0 in the highest bit.
    let mut step = ONE >> 8;
    let mut k = 0;
    while k < POWER_ROWS {
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
const POWER_ROWS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_crc_of_zlib() {
        assert_eq!(of(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn patching_gives_what_a_pass_gives() {
        let change = [0x12, 0x00, 0xff, 0x80];
        for behind in [0, 1, 3, 14, 251, 252, 253, 255, 256, 300, 65_531, 65_532, 65_536, 1 << 20] {
            let mut bytes: Vec<u8> = (0..behind + 9).map(|i| (i * 7 + 3) as u8).collect();
            let before = of(&bytes);
            for (byte, flip) in bytes[5..9].iter_mut().zip(change) {
                *byte ^= flip;
            }
            assert_eq!(before ^ difference(change, behind as u32), of(&bytes), "{behind} bytes behind");
        }
    }

    #[test]
    fn patching_goes_beyond_what_a_frame_can_hold() {
        // Of the longest distance: x^(8 * (2^32 - 1 + 4)) in two steps of half the way must agree.
        let half = u32::MAX / 2;
        let there = difference([1, 2, 3, 4], half);
        let again = difference(there.to_le_bytes(), u32::MAX - half - 4);
        assert_eq!(again, difference([1, 2, 3, 4], u32::MAX));
    }
}
