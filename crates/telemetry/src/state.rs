//! The grammar of `tracestate` (W3C Trace Context, section 3.3): a list of what other tracing systems have to say, which
//! is passed on and not understood.

/// The most bytes that are passed on: what the specification asks everyone to carry.
const MAX_BYTES: usize = 512;
const MAX_MEMBERS: usize = 32;

/// Whether a value may be passed on. An empty one may be left out, and so is.
pub(crate) fn is_valid(list: &str) -> bool {
    if list.is_empty() || list.len() > MAX_BYTES {
        return false;
    }
    let members: Vec<&str> = list.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    let mut keys = Vec::with_capacity(members.len());
    for member in members.into_iter().filter(|member| !member.is_empty()) {
        let Some((key, value)) = member.split_once('=') else { return false };
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MAX_MEMBERS {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty()
}

/// `key`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    let allowed = |part: &str, begins: fn(&u8) -> bool, most: usize| {
        let rest = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
        part.len() <= most && part.as_bytes().first().is_some_and(begins) && part.as_bytes().iter().all(rest)
    };
    let letter: fn(&u8) -> bool = u8::is_ascii_lowercase;
    match key.split_once('@') {
        Some((tenant, system)) => {
            allowed(tenant, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(), 241)
                && allowed(system, letter, 14)
        }
        None => allowed(key, letter, 256),
    }
}

/// Printable ASCII but for `,` and `=`, not ending in a space (the list's own spaces are trimmed before).
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_specification_are_taken() {
        for list in ["rojo=00f067aa0ba902b7", "rojo=1, congo=t61rcWkgMzE", "fw529a3039@dt=FfAAA,", "a/b*c-d_e=x y"] {
            assert!(is_valid(list), "{list}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_or_the_bound_is_not() {
        let (many, long) = ((0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(","), "x".repeat(257));
        let long = format!("a={long}");
        for list in ["", ",", "a", "=1", "a=", "A=1", "1a=1", "a=1,a=2", "a=b=c", "a=\u{e9}", "t@=1", &many, &long] {
            assert!(!is_valid(list), "{list}");
        }
    }
}
