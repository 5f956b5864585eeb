//! The path of a request as spans and log lines may tell it: whoever reads a token there could do what its holder may.

use std::borrow::Cow;

/// What stands in a token's place.
const HIDDEN: &str = "***";
/// Bytes of the shortest token of a delivery. What is shorter is somebody else's `/deliveries/42`.
const LEAST: usize = 24;

/// A path without the token in `/webhooks/ack/{token}` and in `/deliveries/{token}/…`, behind whatever prefix.
pub fn path(path: &str) -> Cow<'_, str> {
    if !path.contains("/ack/") && !path.contains("/deliveries/") {
        return Cow::Borrowed(path);
    }
    let mut before = ["", ""];
    let told: Vec<&str> = path
        .split('/')
        .map(|segment| {
            let is_token = match before {
                ["webhooks", "ack"] => !segment.is_empty(),
                [_, "deliveries"] => segment.len() >= LEAST,
                _ => false,
            };
            before = [before[1], segment];
            if is_token { HIDDEN } else { segment }
        })
        .collect();
    Cow::Owned(told.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_told() {
        for (asked, told) in [
            ("/webhooks/ack/AZKq3vUfcA", "/webhooks/ack/***"),
            ("/bus/webhooks/ack/AZKq3vUfcA/", "/bus/webhooks/ack/***/"),
            ("/deliveries/billing:0.0.2a.00c0ffee00c0ffee/ack", "/deliveries/***/ack"),
            ("/deliveries/a:0.0.1.00c0ffee00c0ffee/nack", "/deliveries/***/nack"),
            ("/deliveries/billing%3A0.0.2a.00c0ffee00c0ffee/no", "/deliveries/***/no"),
        ] {
            assert_eq!(path(asked), told);
        }
    }

    #[test]
    fn any_other_path_is_told_as_it_is() {
        for told in ["", "/", "*", "/webhooks/ack", "/webhooks/ack/", "/webhooks/wh_1/attempts", "/deliveries/42/ack"] {
            assert_eq!(path(told), told);
        }
    }
}
