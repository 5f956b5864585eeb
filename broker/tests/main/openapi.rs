//! What the broker says of itself for a gateway's document is what it does: each route of its code stands in
//! `openapi.yaml`, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let described: Value = serde_saphyr::from_slice(broker::OPENAPI).unwrap();
    let paths = described["paths"].as_object().unwrap().iter();
    let described: BTreeSet<(String, String)> = paths
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone())))
        .filter(|(_, method)| method != "parameters")
        .collect();
    assert_eq!(described, routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
}

/// `.route("/queues/{queue}", get(one).put(put))` wherever it stands.
fn routes(folder: &Path) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes.extend(self::routes(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for route in text.split(".route(\"").skip(1) {
            let (path, handlers) = route.split_once("\", ").unwrap();
            let handlers = handlers.split("))").next().unwrap();
            let methods = ["get", "put", "post", "delete", "patch"].into_iter();
            let methods =
                methods.filter(|method| handlers.split(['.', ' ']).any(|one| one.starts_with(&format!("{method}("))));
            routes.extend(methods.map(|method| (path.to_owned(), method.to_owned())));
        }
    }
    routes
}
