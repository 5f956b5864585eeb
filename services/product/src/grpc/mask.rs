//! Which fields of a product an update names (`google.protobuf.FieldMask`).

use proto::shop::product::v1 as pb;
use service::Violations;

use crate::domain::Patch;

const ALL: [&str; 4] = ["name", "description", "category", "price"];

/// The changes that `paths` name, with the values of `product`. `*` names all that can change; no path at all names those
/// that have a value. Each path that names nothing changeable becomes a violation.
pub fn patch(product: pb::Product, paths: &[String], violations: &mut Violations) -> Patch {
    let pb::Product { name, description, category, price, .. } = product;
    if paths.is_empty() {
        let given = |text: String| (!text.is_empty()).then_some(text);
        let (minor_units, currency) = price.map(|price| (price.minor_units, price.currency)).unzip();
        let patch = Patch {
            name: given(name),
            description: given(description),
            category: given(category),
            minor_units,
            currency,
        };
        if patch == Patch::default() {
            violations.add("product", "must have a field to change");
        }
        return patch;
    }
    let price = price.unwrap_or_default();
    let mut patch = Patch::default();
    let paths = paths.iter().flat_map(|path| if path == "*" { ALL.to_vec() } else { vec![path.as_str()] });
    for path in paths {
        match path {
            "name" => patch.name = Some(name.clone()),
            "description" => patch.description = Some(description.clone()),
            "category" => patch.category = Some(category.clone()),
            "price" => {
                patch.minor_units = Some(price.minor_units);
                patch.currency = Some(price.currency.clone());
            }
            "price.minor_units" => patch.minor_units = Some(price.minor_units),
            "price.currency" => patch.currency = Some(price.currency.clone()),
            "stock" => violations.add("product.stock", "is changed by restocking, not by an update"),
            "id" | "etag" | "created_at" | "updated_at" => {
                violations.add(format!("product.{path}"), "is set by the service");
            }
            unknown => violations.add(format!("product.{unknown}"), "is not a field of a product"),
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::shop::money::v1::Money;

    fn product() -> pb::Product {
        let price = Some(Money { minor_units: 5, currency: "EUR".to_owned() });
        pb::Product { name: "Cup".to_owned(), price, ..pb::Product::default() }
    }

    fn of(product: pb::Product, paths: &[&str]) -> (Patch, Vec<String>) {
        let mut violations = Violations::default();
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        let patch = patch(product, &paths, &mut violations);
        (patch, violations.0.into_iter().map(|(field, _)| field).collect())
    }

    #[test]
    fn no_mask_names_what_is_given() {
        let (patch, bad) = of(product(), &[]);
        let expected = Patch {
            name: Some("Cup".to_owned()),
            minor_units: Some(5),
            currency: Some("EUR".to_owned()),
            ..Patch::default()
        };
        assert_eq!((patch, bad), (expected, vec![]));
        assert_eq!(of(pb::Product::default(), &[]).1, ["product"]);
    }

    #[test]
    fn a_path_can_name_an_empty_value_and_a_part_of_the_price() {
        let (patch, bad) = of(product(), &["description", "price.currency"]);
        let expected = Patch { description: Some(String::new()), currency: Some("EUR".to_owned()), ..Patch::default() };
        assert_eq!((patch, bad), (expected, vec![]));
    }

    #[test]
    fn a_star_names_all_that_can_change() {
        let (patch, bad) = of(product(), &["*"]);
        assert_eq!(patch.description.as_deref(), Some(""));
        assert!(patch.category.is_some() && patch.minor_units.is_some() && bad.is_empty());
    }

    #[test]
    fn paths_that_name_nothing_changeable_are_named_back() {
        assert_eq!(
            of(product(), &["name", "stock", "id", "colour"]).1,
            ["product.stock", "product.id", "product.colour"]
        );
    }
}
