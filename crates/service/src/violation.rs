//! Bad fields, collected before any is refused.

use std::fmt;

use tonic::Status;

use crate::status::{invalid, summary};

/// Bad fields, all of them: pairs of the field's path in the request (`product.price.currency`) and what it must be.
/// Becomes INVALID_ARGUMENT with google.rpc.BadRequest; `?` does so in an RPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(pub Vec<(String, String)>);

impl Violations {
    /// The violation of a single field.
    pub fn of(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self(vec![(field.into(), description.into())])
    }

    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push((field.into(), description.into()));
    }

    /// Takes the value of a check, or its violations.
    pub fn take<T>(&mut self, checked: Result<T, Self>) -> Option<T> {
        checked.map_err(|other| self.0.extend(other.0)).ok()
    }

    /// Ok if there are none.
    pub fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&summary(&self.0))
    }
}

impl std::error::Error for Violations {}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        invalid(violations.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    #[test]
    fn every_field_is_named_in_the_message_and_in_the_details() {
        let mut violations = Violations::of("name", "is empty");
        violations.add("price.currency", "must be three letters");
        let status = Status::from(violations);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "name is empty; price.currency must be three letters");
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["name", "price.currency"]);
    }

    #[test]
    fn none_is_fine() {
        assert_eq!(Violations::default().check(), Ok(()));
        let mut violations = Violations::default();
        assert_eq!(violations.take(Ok(1)), Some(1));
        assert_eq!(violations.take::<()>(Err(Violations::of("a", "b"))), None);
        assert!(violations.check().is_err());
    }
}
