//! Follows the product service's events and keeps the copy of the catalogue.
//!
//! An event is believed only from the product service itself. The copy takes whatever is newer than what it has, so
//! deliveries may repeat or come late; a product that was dropped stays, unavailable, and no late event brings it back.

use async_trait::async_trait;
use bus::{Delivery, Failure, Group, Handler, Inbox, Mode};
use events::Envelope;
use serde::Deserialize;

use crate::{
    domain::{Money, Product},
    store::Store,
};

const GROUP: &str = "cart-catalogue";
const SOURCE: &str = "/services/product";

pub fn group() -> anyhow::Result<Group> {
    Ok(Group::new(GROUP, "DB/*".parse()?, Mode::Keyed))
}

pub struct Catalogue {
    store: Store,
    inbox: Inbox,
}

impl Catalogue {
    pub fn new(store: Store) -> Self {
        Self { store, inbox: Inbox::new(GROUP) }
    }
}

#[async_trait]
impl Handler for Catalogue {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = &delivery.envelope;
        let subject = envelope.subject.as_deref().unwrap_or_default();
        let Some(id) = subject.strip_prefix("products/").filter(|_| envelope.source == SOURCE) else { return Ok(()) };
        let product = product(id, envelope).map_err(|reason| Failure::Dead { reason })?;
        Ok(self.store.copy(&self.inbox, envelope, &product).await?)
    }
}

/// A product's record in an event: proto3 JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    name: String,
    price: Price,
    etag: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    minor_units: Integer,
    currency: String,
}

/// Proto3 JSON writes 64-bit integers as strings and reads numbers as well.
#[derive(Deserialize)]
#[serde(untagged)]
enum Integer {
    Text(String),
    Number(i64),
}

fn product(id: &str, envelope: &Envelope) -> Result<Product, String> {
    let data = envelope.json().ok_or("no JSON data")?;
    let record = Record::deserialize(data).map_err(|error| format!("not a product: {error}"))?;
    let minor_units = match record.price.minor_units {
        Integer::Number(number) => number,
        Integer::Text(text) => text.parse().map_err(|_| format!("not an amount: {text:?}"))?,
    };
    Ok(Product {
        id: id.to_owned(),
        name: record.name,
        price: Money { minor_units, currency: record.price.currency },
        available: envelope.event.as_str() != "DELETE",
        version: record.etag.parse().map_err(|_| format!("not a version: {:?}", record.etag))?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use database::{Database, Url};
    use events::{Data, Name};
    use serde_json::{Value, json};
    use tempfile::TempDir;
    use testkit::Postgres;

    use super::*;
    use crate::{MIGRATIONS, domain::Item};

    struct Stage {
        catalogue: Catalogue,
        store: Store,
        _on: (TempDir, Option<Postgres>),
    }

    impl Stage {
        async fn both() -> [Self; 2] {
            let folder = tempfile::tempdir().unwrap();
            let sqlite = format!("sqlite:{}", folder.path().join("cart.db").display());
            let postgres = testkit::postgres().await;
            let url = postgres.url();
            [
                Self::on(sqlite, (folder, None)).await,
                Self::on(url, (tempfile::tempdir().unwrap(), Some(postgres))).await,
            ]
        }

        async fn on(url: String, on: (TempDir, Option<Postgres>)) -> Self {
            let migrations = [MIGRATIONS[0], outbox::migration(9001), Inbox::migration(9002)];
            let database = Database::open(&Url(url), "cart", &migrations).await.unwrap();
            let store = Store::new(database, |_| Value::Null);
            Self { catalogue: Catalogue::new(store.clone()), store, _on: on }
        }

        async fn handle(&self, envelope: &Envelope) -> Result<(), Failure> {
            let delivery = Delivery {
                group: "cart".into(),
                envelope: Arc::new(envelope.clone()),
                partition: 0,
                position: 1,
                attempt: 1,
                generation: 1,
                cancelled: Default::default(),
            };
            self.catalogue.handle(&delivery).await
        }

        /// The teapot as a cart has it that got it while it was in the catalogue.
        async fn teapot(&self) -> Product {
            self.store.get("customers/ada").await.unwrap().lines.remove(0).product
        }

        async fn add(&self) -> bool {
            let item = Item { product_id: "teapot".to_owned(), quantity: 1 };
            self.store.add("customers/ada", item).await.is_ok()
        }
    }

    fn event(name: &str, version: i64, price: Value) -> Envelope {
        let mut envelope = Envelope::new(SOURCE, Name::new("DB").unwrap(), Name::new(name).unwrap());
        envelope.subject = Some("products/teapot".to_owned());
        let record = json!({
            "id": "teapot", "name": format!("Teapot {version}"), "etag": version.to_string(),
            "price": { "minorUnits": price, "currency": "EUR" },
        });
        envelope.data = Some(Data::Json(record));
        envelope
    }

    #[tokio::test]
    async fn only_a_newer_version_changes_the_copy() {
        for stage in Stage::both().await {
            stage.handle(&event("CREATE", 2, json!("2900"))).await.unwrap();
            assert!(stage.add().await);
            stage.handle(&event("UPDATE", 1, json!("100"))).await.unwrap();
            stage.handle(&event("UPDATE", 2, json!("200"))).await.unwrap();
            assert_eq!(
                (stage.teapot().await.name.as_str(), stage.teapot().await.price.minor_units),
                ("Teapot 2", 2900)
            );
            stage.handle(&event("UPDATE", 10, json!(1000))).await.unwrap();
            assert_eq!(
                (stage.teapot().await.name.as_str(), stage.teapot().await.price.minor_units),
                ("Teapot 10", 1000)
            );
        }
    }

    #[tokio::test]
    async fn a_redelivery_changes_nothing() {
        for stage in Stage::both().await {
            let created = event("CREATE", 1, json!("2900"));
            let dropped = event("DELETE", 1, json!("2900"));
            stage.handle(&created).await.unwrap();
            assert!(stage.add().await);
            stage.handle(&created).await.unwrap();
            stage.handle(&dropped).await.unwrap();
            stage.handle(&dropped).await.unwrap();
            stage.handle(&created).await.unwrap();
            assert!(!stage.teapot().await.available);
        }
    }

    #[tokio::test]
    async fn a_product_that_was_dropped_before_it_was_known_stays_dropped() {
        for stage in Stage::both().await {
            stage.handle(&event("DELETE", 3, json!("2900"))).await.unwrap();
            stage.handle(&event("UPDATE", 3, json!("2900"))).await.unwrap();
            stage.handle(&event("CREATE", 1, json!("2900"))).await.unwrap();
            assert!(!stage.add().await);
        }
    }

    #[tokio::test]
    async fn what_is_no_product_of_the_product_service_is_left_alone() {
        for stage in Stage::both().await {
            let mut review = event("CREATE", 1, json!("2900"));
            review.subject = Some("reviews/teapot".to_owned());
            let mut nameless = event("CREATE", 1, json!("2900"));
            nameless.subject = None;
            let mut forged = event("CREATE", 1, json!("1"));
            forged.source = "/clients/eve".to_owned();
            for envelope in [review, nameless, forged] {
                stage.handle(&envelope).await.unwrap();
            }
            assert!(!stage.add().await);
        }
    }

    #[tokio::test]
    async fn a_record_that_can_t_be_read_is_a_dead_letter() {
        for stage in Stage::both().await {
            let mut empty = event("CREATE", 1, json!("2900"));
            empty.data = None;
            let mut unversioned = event("CREATE", 1, json!("2900"));
            unversioned.data = Some(Data::Json(
                json!({ "name": "x", "etag": "new", "price": { "minorUnits": "1", "currency": "EUR" } }),
            ));
            for envelope in [empty, unversioned, event("CREATE", 1, json!("cheap"))] {
                assert!(matches!(stage.handle(&envelope).await, Err(Failure::Dead { .. })));
            }
        }
    }
}
