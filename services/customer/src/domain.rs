//! What an account is, and which e-mails, passwords and names are accepted.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use service::Violations;
use time::OffsetDateTime;

const EMAIL_BYTES: usize = 254;
const LOCAL_PART_BYTES: usize = 64;
const LABEL_BYTES: usize = 63;
const NAME_CHARACTERS: usize = 100;

/// What a new customer may do.
pub const CUSTOMER_SCOPES: [&str; 1] = ["shop"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: String,
    pub email: Email,
    pub name: String,
    pub scopes: Vec<String>,
    pub version: i64,
    pub created_at: OffsetDateTime,
}

impl Account {
    /// The principal it logs in as.
    pub fn subject(&self) -> String {
        format!("customers/{}", self.id)
    }
}

/// An account, and the hash that its password must match.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub account: Account,
    /// Argon2id, in PHC form.
    pub hash: SecretString,
}

/// What a visitor must say to become a customer.
#[derive(Clone, Debug)]
pub struct SignUp {
    pub email: Email,
    pub name: String,
    pub password: SecretString,
}

impl SignUp {
    /// # Errors
    /// Every field that is refused.
    pub fn new(email: &str, name: &str, password: SecretString) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        let email = Email::new(email);
        if email.is_none() {
            violations.add("email", "must be an e-mail address of at most 254 characters");
        }
        if !is_password(&password) {
            violations.add("password", "must have 8 to 128 characters");
        }
        let name = name.trim();
        if !(1..=NAME_CHARACTERS).contains(&name.chars().count()) {
            violations.add("name", "must have 1 to 100 characters");
        }
        if name.chars().any(char::is_control) {
            violations.add("name", "must not have control characters");
        }
        match email {
            Some(email) if violations.0.is_empty() => Ok(Self { email, name: name.to_owned(), password }),
            _ => Err(violations),
        }
    }
}

/// 8 to 128 characters, whichever they are.
pub fn is_password(password: &SecretString) -> bool {
    // A character has at most 4 bytes: a megabyte needs no counting.
    let text = password.expose_secret();
    text.len() <= 4 * 128 && (8..=128).contains(&text.chars().count())
}

/// An e-mail address in lower case. Deliberately narrower than RFC 5321: dot-atoms in ASCII before the `@` and a domain
/// of two labels or more behind it; no quotes, comments or address literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// None for what isn't one. Space around it and upper case are forgiven.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > EMAIL_BYTES {
            return None;
        }
        let (local, domain) = text.rsplit_once('@')?;
        (is_local_part(local) && is_domain(domain)).then(|| Self(text.to_ascii_lowercase()))
    }

    /// What the database holds, which was checked on its way in.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_local_part(local: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
    local.len() <= LOCAL_PART_BYTES && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(allowed))
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(email: &str, name: &str, password: &str) -> Vec<String> {
        match SignUp::new(email, name, password.into()) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.0.into_iter().map(|(field, _)| field).collect(),
        }
    }

    #[test]
    fn an_email_is_trimmed_and_kept_in_lower_case() {
        assert_eq!(Email::new(" Ada.Lovelace+tea@Example.ORG \n").unwrap().as_str(), "ada.lovelace+tea@example.org");
    }

    #[test]
    fn what_is_no_email_is_refused() {
        let long = format!("a@{}.org", "b".repeat(64));
        let longer = format!("a@{}org", "b.".repeat(125));
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.org",
            "a@b",
            "a@b.",
            "a@.org",
            "a@b..org",
            "a@-b.org",
            "a@b-.org",
            ".a@b.org",
            "a.@b.org",
            "a..b@b.org",
            "a b@b.org",
            "a@b org",
            "a@b@c.org",
            "a\0@b.org",
            "ä@b.org",
            "a@bücher.org",
            "\"a\"@b.org",
            "a@[127.0.0.1]",
            &long,
            &longer,
        ] {
            assert_eq!(Email::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        assert_eq!(refused("ada", "  ", "short"), ["email", "password", "name"]);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert!(refused("a@b.org", "A", &"p".repeat(8)).is_empty());
        assert!(refused("a@b.org", &"Ä".repeat(100), &"ß".repeat(128)).is_empty());
        assert_eq!(refused("a@b.org", &"Ä".repeat(101), &"ß".repeat(129)), ["password", "name"]);
        assert_eq!(refused("a@b.org", "A\nB", &"ß".repeat(7)), ["password", "name"]);
    }

    #[test]
    fn debug_output_has_no_password() {
        let sign_up = SignUp::new("a@b.org", "A", "correct horse".into()).unwrap();
        assert!(!format!("{sign_up:?}").contains("horse"));
    }
}
