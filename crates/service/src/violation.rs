/// Bad fields, all of them: becomes INVALID_ARGUMENT with google.rpc.BadRequest. `?` works through From<Violations> for tonic::Status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Violations(pub Vec<(String, String)>);

impl Violations {
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push((field.into(), description.into()));
    }
    /// Ok if there are none.
    pub fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}
