//! Reviews of the demo's products, so that its first product page has some. A repeated start adds nothing: an author
//! reviews a product once.

use crate::{
    domain::Draft,
    store::{Error, Store},
};

/// (product, author, rating, text), oldest first.
const REVIEWS: [(&str, &str, i32, &str); 5] = [
    ("teapot", "customers/grace", 4, "Pours without a drip. The lid could sit tighter."),
    ("teapot", "customers/ada", 5, "Keeps two cups hot for an hour, and the glaze is lovelier than in the pictures."),
    ("teapot", "customers/demo", 5, "Bought a second one for the office."),
    ("espresso-cup", "customers/alan", 3, "Handsome and sturdy, but the handle is made for smaller fingers than mine."),
    ("espresso-cup", "customers/ada", 5, "Thick walls, so the crema lasts."),
];

pub async fn run(store: &Store) -> anyhow::Result<()> {
    for (product_id, author, rating, text) in REVIEWS {
        let draft = Draft { product_id: product_id.into(), author: author.into(), rating, text: text.into() };
        match store.create(draft).await {
            Ok(_) | Err(Error::AlreadyReviewed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
