//! A cart service, who calls it, and the product service's events.

use events::{Data, Envelope, Name};
use proto::shop::cart::v1::{AddItemRequest, cart_service_client::CartServiceClient};
use serde_json::json;
use stage::{BOUND, Caller, Instance, Scene, Stage};
use testkit::eventually;

pub type Client = CartServiceClient<Caller>;

pub struct Shop {
    pub stage: Stage,
    instance: Instance,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        let service = cart::build(stage.config()).await.unwrap();
        Self { instance: stage.start(service), stage }
    }
}

impl Shop {
    /// A shopper, by its subject.
    pub fn shopper(&self, subject: &str) -> Client {
        self.caller(subject, &["shop"])
    }

    pub fn caller(&self, subject: &str, scopes: &[&str]) -> Client {
        CartServiceClient::new(self.instance.caller(subject, scopes))
    }

    pub fn anyone(&self) -> Client {
        CartServiceClient::new(self.instance.anyone())
    }

    /// The order service, acting alone.
    pub fn order_service(&self) -> Client {
        CartServiceClient::new(self.instance.order_service())
    }

    /// Says as the product service that these products are new: (id, minor units, currency). Returns when the cart
    /// service knows them.
    pub async fn catalogue(&self, products: &[(&str, i64, &str)]) {
        for &(id, minor_units, currency) in products {
            self.product("CREATE", id, minor_units, currency, 1).await;
            eventually(&format!("the cart service knows {id}"), BOUND, || {
                // A cart each, as they may have different currencies.
                let mut scout = self.shopper(&format!("scouts/{id}"));
                let request = AddItemRequest { product_id: id.to_owned(), quantity: 1 };
                async move { scout.add_item(request).await.ok() }
            })
            .await;
        }
    }

    /// Says something of a product as the product service.
    pub async fn product(&self, event: &str, id: &str, minor_units: i64, currency: &str, version: i64) {
        let mut envelope = Envelope::new("/services/product", Name::new("DB").unwrap(), Name::new(event).unwrap());
        envelope.subject = Some(format!("products/{id}"));
        envelope.data = Some(Data::Json(json!({
            "id": id, "name": format!("The {id}"), "description": "", "category": "tea", "stock": "7",
            "price": { "minorUnits": minor_units.to_string(), "currency": currency }, "etag": version.to_string(),
        })));
        self.stage.bus.publish(vec![envelope]).await.unwrap();
    }
}
