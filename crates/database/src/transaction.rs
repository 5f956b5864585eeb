use crate::{Error, Row, Value};

pub struct Transaction(());

impl Transaction {
    /// How many rows it changed.
    pub async fn execute(&mut self, _sql: &'static str, _params: &[Value]) -> Result<u64, Error> {
        todo!()
    }
    pub async fn query(&mut self, _sql: &'static str, _params: &[Value]) -> Result<Vec<Row>, Error> {
        todo!()
    }
    /// Has the commit wake those who wait for [`crate::Database::appended`].
    pub fn wake_relay(&mut self) {
        todo!()
    }
    pub async fn commit(self) -> Result<(), Error> {
        todo!()
    }
    pub async fn rollback(self) -> Result<(), Error> {
        todo!()
    }
}
