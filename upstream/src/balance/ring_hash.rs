//! The same endpoint for the same key, whichever core and whichever gateway is asked. Where an endpoint goes, only its own
//! keys go elsewhere; where one comes, or gets a larger share, it takes an equal part of everybody's; all others stay
//! where they are.
//!
//! Done without a ring, by the highest random weight (Thaler and Ravishankar, 1998): key and endpoint together make a
//! number, and the best one wins. It promises what a ring does, spreads keys more evenly than one, and has nothing to build
//! when endpoints come and go.

use super::Draw;

pub(super) fn pick(key: u64, draw: &Draw<'_>) -> usize {
    let number = |place: usize| stir(key ^ draw.seats[place].lane.mark);
    let best = if draw.is_even {
        draw.among.iter().copied().max_by_key(|place| number(*place))
    } else {
        // Exponentially distributed by its share: the least of them falls to each as often as that says.
        let time = |place: usize| {
            let chance = ((number(place) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -chance.ln() / draw.seats[place].fitness.share(draw.now)
        };
        draw.among.iter().copied().min_by(|one, other| time(*one).total_cmp(&time(*other)))
    };
    best.unwrap_or(draw.among[0])
}

/// An endpoint as a number, by its address (FNV-1a): the same everywhere, also after a restart.
pub(crate) fn mark(address: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    stir(address.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Every bit hangs on every bit (MurmurHash3's finaliser).
fn stir(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}
