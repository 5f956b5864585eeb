//! Promises that a debug build breaks on purpose, where `TURNPIKE_BROKEN` names one: the suite of `verify/` proves by it that
//! it would notice. A build for release doesn't ask.

/// What may be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// `ack-before-effect`: an event is acknowledged once its effect is durable.
    EffectBeforeAck,
    /// `token-unchecked`: only the holder of a lease settles its delivery.
    TokensAreChecked,
    /// `trim-ignores-groups`: nothing is trimmed that a group needs.
    GroupsHoldTheLog,
    /// `key-order-dropped`: a key's next event waits while the former is tried again.
    KeysKeepTheirOrder,
    /// `cursor-skips`: a reader goes on with what lies behind its cursor.
    CursorsAreExact,
}

#[cfg(debug_assertions)]
pub(crate) fn is_broken(promise: Promise) -> bool {
    use std::{env, sync::LazyLock};

    static BROKEN: LazyLock<Option<Promise>> = LazyLock::new(|| match env::var("TURNPIKE_BROKEN").ok()?.as_str() {
        "ack-before-effect" => Some(Promise::EffectBeforeAck),
        "token-unchecked" => Some(Promise::TokensAreChecked),
        "trim-ignores-groups" => Some(Promise::GroupsHoldTheLog),
        "key-order-dropped" => Some(Promise::KeysKeepTheirOrder),
        "cursor-skips" => Some(Promise::CursorsAreExact),
        _ => None,
    });
    *BROKEN == Some(promise)
}

#[cfg(not(debug_assertions))]
pub(crate) const fn is_broken(_: Promise) -> bool {
    false
}
