//! The check that the numbers of an RSA key are sound, before anything is computed with them.

use crate::key::KeyError;

/// The largest modulus, in bytes (8192 bits). Larger ones cost seconds to check.
const MAX_MODULUS: usize = 1024;
/// The smallest, in bytes (RFC 7518 §3.3: 2048 bits).
const MIN_MODULUS: usize = 256;
/// The primes that expose the moduli of a broken key generator (ROCA, CVE-2017-15361): modulo each of these, such a
/// modulus is a power of 65537.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Refuses a modulus or exponent that is not minimal, too small, too large, or from a generator that is known to be
/// broken.
pub(crate) fn is_sound(n: &[u8], e: &[u8]) -> Result<(), KeyError> {
    let minimal = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
    let odd = e.last().is_some_and(|last| last & 1 == 1);
    // One of 2^32 or more serves no signature, and costs; one of 1 makes every number its own signature.
    let exponent = e.len() <= 4 && odd && e != [1];
    let sized = minimal(n) && minimal(e) && (MIN_MODULUS..=MAX_MODULUS).contains(&n.len());
    if sized && exponent && !is_roca(n) { Ok(()) } else { Err(KeyError::Malformed) }
}

fn is_roca(n: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let rest = n.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (1..*prime).any(|_| {
            power = power * (65_537 % prime) % prime;
            power == rest
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_exponents_end_where_they_should() {
        let odd = |length: usize| [vec![0xc3; length - 1], vec![0x0b]].concat();
        let sound = |n: Vec<u8>, e: &[u8]| is_sound(&n, e).is_ok();
        let f4 = [1, 0, 1];
        assert!(sound(odd(256), &f4) && sound(odd(1_024), &f4));
        assert!(!sound(odd(255), &f4) && !sound(odd(1_025), &f4));
        assert!(!sound([vec![0], odd(256)].concat(), &f4), "a leading zero");
        assert!(sound(odd(256), &[3]) && sound(odd(256), &[0xff; 4]));
        for e in [&[1][..], &[2], &[1, 0, 0], &[0, 1, 0, 1], &[1, 0, 0, 0, 1], &[]] {
            assert!(!sound(odd(256), e), "{e:?}");
        }
    }

    #[test]
    fn powers_of_the_generator_are_told_apart() {
        // 65537 modulo everything is itself, and its own power; so is 1, the zeroth. Zero is none.
        assert!(is_roca(&[1, 0, 1]) && is_roca(&[1]));
        assert!(!is_roca(&[0]) && !is_roca(&[0xc3; 256]) && !is_roca(&[3]));
    }
}
