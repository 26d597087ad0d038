//! Free ports.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use crate::Failure;

/// Below what systems give to outgoing connections. A port out of that range may be taken while its
/// server is down; and who asks for it again and again is, at last, connected with itself.
const RANGE: std::ops::Range<u16> = 18_000..32_000;

/// `n` different ports of 127.0.0.1 that nobody uses now.
///
/// # Errors
///
/// When there are none.
pub fn free_ports(n: usize) -> Result<Vec<u16>, Failure> {
    let mut free = BTreeSet::new();
    for _ in 0..10_000 {
        if free.len() == n {
            return Ok(free.into_iter().collect());
        }
        let width = u64::from(RANGE.end - RANGE.start);
        // Keyed anew each time: the randomness that std has.
        let drawn = RandomState::new().hash_one(free.len()) % width;
        let port = RANGE.start + u16::try_from(drawn).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            free.insert(port);
        }
    }
    Err(Failure::new("there is no free port on 127.0.0.1"))
}
