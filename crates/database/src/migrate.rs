/// One step of a schema, applied once, in order of `version`. In `sql`, `{identity}` stands for the engine's
/// self-numbering 64-bit primary key column type.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    pub version: i64,
    pub name: &'static str,
    pub sql: &'static str,
}
