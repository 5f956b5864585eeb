//! The demo's catalogue: twelve products in four categories, with ids that are easy to type.

use crate::{
    domain::{Details, Money},
    store::NewProduct,
};

/// (id, name, category, price in cents, stock, description)
const PRODUCTS: [(&str, &str, &str, i64, i64, &str); 12] = [
    ("teapot", "Teapot", "tea", 3490, 250, "Stoneware, 1.2 litres, with a spout that doesn't drip."),
    ("matcha-whisk", "Matcha whisk", "tea", 1850, 180, "Eighty tines, split by hand from one piece of bamboo."),
    ("assam-tea", "Assam tea", "tea", 1290, 600, "Second flush, malty and strong. 250 g."),
    ("espresso-cup", "Espresso cup", "coffee", 890, 1000, "Thick porcelain, 80 ml, with its saucer."),
    ("coffee-grinder", "Coffee grinder", "coffee", 7990, 140, "Steel burrs, forty settings, and a handle that folds."),
    ("espresso-beans", "Espresso beans", "coffee", 1650, 800, "Roasted slowly: hazelnut, cocoa, little acid. 500 g."),
    ("bread-knife", "Bread knife", "kitchen", 4590, 220, "A 24 cm blade with waves that need no force."),
    ("cast-iron-pan", "Cast-iron pan", "kitchen", 6990, 160, "28 cm, seasoned with linseed oil, for a lifetime."),
    ("cutting-board", "Cutting board", "kitchen", 3990, 300, "End-grain oak, 40 by 30 cm, kind to knives."),
    ("desk-lamp", "Desk lamp", "home", 8990, 120, "Two joints, one warm light, no flicker."),
    ("linen-throw", "Linen throw", "home", 5490, 200, "Washed linen, 130 by 170 cm, softer every year."),
    ("beeswax-candle", "Beeswax candle", "home", 1190, 500, "Burns for forty hours and smells of summer."),
];

pub fn products() -> Vec<NewProduct> {
    let product = |(id, name, category, cents, stock, description): (&str, &str, &str, i64, i64, &str)| NewProduct {
        id: id.to_owned(),
        details: Details {
            name: name.to_owned(),
            description: description.to_owned(),
            category: category.to_owned(),
            price: Money { minor_units: cents, currency: "EUR".to_owned() },
        },
        stock,
    };
    PRODUCTS.map(product).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{check_stock, is_id};
    use service::Violations;

    #[test]
    fn the_demo_s_products_are_ones_the_service_would_accept() {
        let mut violations = Violations::default();
        for NewProduct { id, details, stock } in products() {
            assert!(is_id(&id), "{id}");
            details.check(&mut violations);
            check_stock(stock, &mut violations);
        }
        assert_eq!(violations, Violations::default());
    }
}
