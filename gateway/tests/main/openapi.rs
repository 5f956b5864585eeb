//! The OpenAPI document: valid whatever is configured, and true.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use bytes::Bytes;
use gateway::Properties;
use serde_json::{Value, json};
use testkit::check_openapi;

use crate::running::Running;

const HEAD: &str = "
listeners: [{address: '127.0.0.1:0'}]
upstreams:
  library: {endpoints: ['127.0.0.1:1'], protocol: grpc, descriptors: all}
  other: {endpoints: ['127.0.0.1:1']}
  told: {endpoints: ['127.0.0.1:1'], openapi: told}
";

const TOLD: &str = r##"
openapi: 3.1.0
info: { title: Told, version: "1" }
tags: [{ name: Told, description: What is told. }]
paths:
  /v2/things:
    get: { operationId: listThings, tags: [Told], responses: { "200": { description: Things., content: { application/json: { schema: { type: array, items: { $ref: "#/components/schemas/Book" } } } } } } }
    post: { operationId: makeThing, responses: { "201": { description: Made. } } }
  /v2/things/{id}:
    parameters: [{ name: id, in: path, required: true, schema: { type: string } }]
    get: { operationId: getThing, responses: { "200": { description: It., content: { application/json: { schema: { $ref: "#/components/schemas/Book" } } } } } }
  /v2/secrets:
    get: { operationId: getSecrets, responses: { "200": { description: Nobody's business. } } }
components:
  schemas:
    Book: { type: object, properties: { pages: { type: array, items: { $ref: "#/components/schemas/Book" } }, of: { $ref: "#/components/schemas/Page" } } }
    Page: { type: string, enum: [left, right] }
"##;

/// A bit of everything.
const NASTY: &str = "
authentication:
  api_keys: {file: keys.yaml}
  session: {upstream: library}
  mtls: {}
openapi: {title: Everything, version: '7', docs: ''}
rate_limit: [{requests: 100, per: 1m, key: principal}]
routes:
  - {grpc: library.v1.Library, upstream: library, authenticate: required}
  - {grpc: described.v1.GardenService, upstream: library}
  - match: {path: '/pages/{id}'}
    authorise: {claim: tenant, is: '{id}'}
    upstream: library
    aggregate:
      - {part: book, call: library.v1.Library/GetBook, required: true}
      - {part: reviews, call: library.v1.Reviews/List, request: {book_id: '{id}', page_size: '{query.size}'}, pick: reviews, fallback: []}
      - {part: maybe, call: library.v1.Library/GetBook, request: {id: '{id}'}, pick: shelf}
  - {match: {path: /books/new, method: POST}, transcode: library.v1.Library/CreateBook, upstream: library, scopes: {any: [a, b]}, idempotency: {required: true}}
  - {match: {path: /old}, redirect: {to: /new}}
  - {match: {path: /robots.txt, method: GET}, respond: {status: 200, body: 'User-agent: *'}, authenticate: none}
  - {match: {path: '/raw/{rest=**}'}, proxy: other, concurrency: {requests: 3, key: client_address}}
  - {match: {path: '/raw/{rest=**}', headers: {x-version: '2'}}, proxy: other}
  - {match: {path: '/raw/{rest=**}', host: beta.test, method: [GET, PURGE]}, proxy: other, name: beta}
  - {match: {path: '/api/things'}, proxy: {upstream: told, rewrite: {prefix: /v2/things}}}
  - {match: {path: '/api/things/{id}', method: GET}, proxy: {upstream: told, rewrite: {prefix: /v2/things}}}
  - {match: {path: /hidden}, proxy: other, describe: {hidden: true}}
";

fn built_in() -> BTreeMap<String, Bytes> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut compiler =
        protox::Compiler::new([format!("{root}/tests/proto"), format!("{root}/../proto/proto")]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["library.proto", "described.proto"]).unwrap();
    let all = Bytes::from(compiler.encode_file_descriptor_set());
    [("all", all), ("told", Bytes::from_static(TOLD.as_bytes()))].map(|(name, file)| (name.to_owned(), file)).into()
}

fn describe(sections: &str) -> Result<Value, Vec<String>> {
    let text = format!("{HEAD}{sections}");
    let document = gateway::describe(&text, &Properties::new(), None, &built_in());
    let document = document.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap())
}

/// Every operation, variants included, with its path and method.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let own = item.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with("x-"));
        let others = item.get("x-turnpike-methods").and_then(Value::as_object).into_iter().flatten();
        for (method, operation) in own.chain(others) {
            let variants = operation["x-turnpike-variants"].as_array().into_iter().flatten();
            all.extend(variants.chain([operation]).map(|one| (path.clone(), method.clone(), one.clone())));
        }
    }
    all
}

fn operation(document: &Value, id: &str) -> (String, String, Value) {
    let all = operations(document);
    let found = all.iter().find(|(.., operation)| operation["operationId"] == id).cloned();
    found.unwrap_or_else(|| {
        panic!("no {id} among {:?}", all.iter().map(|(.., operation)| &operation["operationId"]).collect::<Vec<_>>())
    })
}

#[test]
fn whatever_is_configured_the_document_is_valid_and_so_are_its_examples() {
    let document = describe(NASTY).unwrap();
    assert!(check_openapi(&document.to_string()) > 100);
    assert_eq!(document["info"]["title"], "Everything");
    let empty = describe("").unwrap();
    check_openapi(&empty.to_string());
}

#[test]
fn the_same_configuration_makes_the_same_bytes() {
    let made = || {
        let document = gateway::describe(&format!("{HEAD}{NASTY}"), &Properties::new(), None, &built_in());
        serde_json::to_string(&document.unwrap()).unwrap()
    };
    assert_eq!(made(), made());
}

#[tokio::test]
async fn every_route_that_is_not_hidden_stands_in_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for (name, file) in built_in() {
        fs::write(folder.path().join(name), file).unwrap();
    }
    let config = folder.path().join("gateway.yaml");
    fs::write(&config, format!("access_log: false\n{HEAD}{NASTY}")).unwrap();
    let gateway = Running::watching(&config).await;
    let routes = gateway.ops("/routes").await;
    let routes = routes["routes"].as_array().unwrap().iter().filter(|route| route["action"] != "document");
    let ids: BTreeSet<_> = routes.map(|route| route["id"].as_str().unwrap().to_owned()).collect();
    let described: BTreeSet<_> = operations(&describe(NASTY).unwrap())
        .into_iter()
        .map(|(.., operation)| operation["x-turnpike-route"].as_str().unwrap().to_owned())
        .collect();
    let hidden: Vec<_> = ids.symmetric_difference(&described).collect();
    assert_eq!(hidden, ["/hidden"]);
    gateway.stop().await;
}

#[test]
fn a_method_is_what_its_proto_says_of_it() {
    let document = describe(NASTY).unwrap();
    let (path, method, create) = operation(&document, "GardenService_CreatePlant");
    assert_eq!((path.as_str(), method.as_str()), ("/beds/{bed}/plants", "post"));
    assert_eq!(create["summary"], "Plant something");
    assert!(create["description"].as_str().unwrap().starts_with("It grows\nif it is watered.\n\nNot in winter."));
    assert_eq!(create["tags"], json!(["Garden"]));
    let garden = document["tags"].as_array().unwrap().iter().find(|tag| tag["name"] == "Garden").unwrap();
    assert_eq!(garden["description"], "Keeps plants.\n\nAnd waters them.");
    // What stands in the path is not asked for again, and what must not be shown is only taken.
    let body = &document["components"]["schemas"]["CreatePlantBody"];
    assert_eq!(body["required"], json!(["plant"]));
    assert_eq!(body["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["password", "plant"]);
    assert_eq!(body["properties"]["password"]["writeOnly"], true);

    let plant = &document["components"]["schemas"]["Plant"];
    assert_eq!(plant["description"], "Something green.");
    assert_eq!(plant["properties"]["name"]["readOnly"], true);
    assert_eq!(plant["properties"]["species"]["description"], "How it is called.");
    assert_eq!(plant["required"], json!(["species"]));
    assert_eq!(plant["properties"]["size"]["$ref"], "#/components/schemas/Plant.Size");
    assert_eq!(plant["properties"]["size"]["description"], "In centimetres, roughly.");
    assert_eq!(plant["properties"]["colour"]["deprecated"], true);
    assert_eq!(plant["properties"]["neighbour"]["$ref"], "#/components/schemas/Plant");
    let size = &document["components"]["schemas"]["Plant.Size"];
    assert!(size["description"].as_str().unwrap().contains("- `SMALL`: Up to a hand."));

    let (path, _, get) = operation(&document, "GardenService_GetPlant");
    assert_eq!(path, "/beds/{name}/plants/{name2}");
    assert_eq!(get["deprecated"], true);
    assert_eq!(operation(&document, "GardenService_GetPlant_2").0, "/plants/{name}");
}

#[test]
fn schemas_of_one_name_are_told_apart() {
    let document = describe(NASTY).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["library.v1.Book", "described.v1.Book", "told.Book", "Everything", "Problem"] {
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(!schemas.contains_key("Book"));
}

#[test]
fn parameters_and_bodies_are_those_the_gateway_takes() {
    let document = describe(NASTY).unwrap();
    let named = |operation: &Value, place: &str| -> BTreeSet<String> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let own = parameters.filter(|one| one["in"] == place);
        own.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let (_, _, list) = operation(&document, "Library_ListBooks");
    let expected = ["genre", "pageSize", "shelf.number", "since", "tags"].map(str::to_owned);
    assert_eq!(named(&list, "query"), expected.into());
    let (path, _, update) = operation(&document, "Library_UpdateBook");
    assert_eq!(path, "/books/{id}");
    assert_eq!(named(&update, "path"), ["id".to_owned()].into());
    assert_eq!(named(&update, "query"), ["updateMask".to_owned()].into());
    assert_eq!(named(&update, "header"), ["If-Match".to_owned()].into());
    assert!(update["responses"]["412"].is_object());
    let (_, _, delete) = operation(&document, "Library_DeleteBook");
    assert_eq!(delete["responses"]["204"]["content"], Value::Null);
    let (_, _, get) = operation(&document, "Library_GetBook");
    assert!(get["responses"]["304"].is_object() && get["responses"]["200"]["headers"]["ETag"].is_object());
    let (path, _, watch) = operation(&document, "Library_Watch");
    assert_eq!(path, "/books:watch");
    let forms: Vec<_> = watch["responses"]["200"]["content"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(forms, ["application/json", "application/x-ndjson", "text/event-stream"]);
    let everything = &document["components"]["schemas"]["Everything"]["properties"];
    assert_eq!(everything["int64"]["type"], "string");
    assert_eq!(everything["byNumber"]["additionalProperties"]["$ref"], "#/components/schemas/Everything");
    assert_eq!(everything["timestamp"]["format"], "date-time");
}

#[test]
fn an_operation_says_who_may_call_and_how_often() {
    let document = describe(NASTY).unwrap();
    let (_, _, list) = operation(&document, "Library_ListBooks");
    assert_eq!(list["security"], json!([{"apiKey": []}, {"session": []}, {"certificate": []}]));
    assert!(list["responses"]["401"].is_object() && list["responses"]["429"].is_object());
    assert_eq!(list["x-turnpike-limits"]["rate"][0]["policy"], "\"principal\";q=100;w=60");
    let (_, _, optional) = operation(&document, "GardenService_GetBook");
    assert_eq!(optional["security"][0], json!({}));
    let (_, _, robots) = operation(&document, "getRobotsTxt");
    assert_eq!(robots["security"], json!([]));
    assert_eq!(robots["responses"]["200"]["content"]["text/plain"]["example"], "User-agent: *");
    let (_, _, create) = operation(&document, "Library_CreateBook_2");
    let scopes = json!([{"apiKey": ["a"]}, {"apiKey": ["b"]}]);
    assert_eq!(create["security"].as_array().unwrap()[..2], scopes.as_array().unwrap()[..]);
    assert!(create["description"].as_str().unwrap().contains("Needs one of the scopes `a`, `b`."));
    let key = create["parameters"].as_array().unwrap().iter().find(|one| one["name"] == "Idempotency-Key").unwrap();
    assert_eq!(key["required"], true);
    assert!(create["responses"]["422"].is_object() && create["responses"]["409"].is_object());
    assert_eq!(document["components"]["securitySchemes"]["session"]["name"], "__Host-session");
}

#[test]
fn an_aggregate_is_its_parts_and_how_they_went() {
    let document = describe(NASTY).unwrap();
    let (_, _, page) = operation(&document, "getPagesById");
    let schema = &page["responses"]["200"]["content"]["application/json"]["schema"];
    let parts = &schema["properties"];
    assert_eq!(parts["book"]["$ref"], "#/components/schemas/library.v1.Book");
    assert_eq!(parts["reviews"]["items"]["$ref"], "#/components/schemas/Review");
    assert_eq!(parts["maybe"]["anyOf"][1], json!({"type": "null"}));
    assert_eq!(parts["_meta"]["properties"]["parts"]["required"], json!(["book", "reviews", "maybe"]));
    let example = &page["responses"]["200"]["content"]["application/json"]["example"]["_meta"]["parts"]["book"];
    assert_eq!(*example, json!({"status": "ok"}), "what went well has no reason");
    assert!(page["description"].as_str().unwrap().contains("Without `book` there is no answer."));
    let size = page["parameters"].as_array().unwrap().iter().find(|one| one["name"] == "size").unwrap();
    assert_eq!(size["schema"]["type"], "integer");
}

#[test]
fn a_service_describes_what_leads_to_it_and_only_that() {
    let document = describe(NASTY).unwrap();
    let (path, _, get) = operation(&document, "getThing");
    assert_eq!(path, "/api/things/{id}");
    assert_eq!(
        get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/told.Book"
    );
    assert!(get["responses"]["502"].is_object(), "what the gateway adds");
    assert_eq!(operation(&document, "listThings").0, "/api/things");
    assert!(!document.to_string().contains("getSecrets"));
}

#[test]
fn routes_that_conditions_tell_apart_stand_side_by_side() {
    let document = describe(NASTY).unwrap();
    let get = &document["paths"]["/raw/{rest}"]["get"];
    assert_eq!(get["x-turnpike-route"], "/raw/{rest=**}");
    let variants = get["x-turnpike-variants"].as_array().unwrap();
    let when: Vec<_> = variants.iter().map(|variant| variant["x-turnpike-when"].clone()).collect();
    assert!(when.contains(&json!({"header": {"x-version": "2"}})) && when.contains(&json!({"host": "beta.test"})));
    assert!(document["paths"]["/raw/{rest}"]["x-turnpike-methods"]["PURGE"].is_object());
}

#[test]
fn a_routes_own_words_go_before_others() {
    let own = "
routes:
  - grpc: library.v1.Library
    upstream: library
    describe: {tags: [Books]}
    methods:
      ListBooks:
        describe: {summary: All of them, description: Really., examples: {parameters: {pageSize: 5}, response: {books: [], nextPageToken: ''}}}
";
    let document = describe(own).unwrap();
    let (_, _, list) = operation(&document, "Library_ListBooks");
    assert_eq!((list["summary"].clone(), list["tags"].clone()), (json!("All of them"), json!(["Books"])));
    assert!(list["description"].as_str().unwrap().starts_with("Really."));
    assert_eq!(
        list["responses"]["200"]["content"]["application/json"]["example"],
        json!({"books": [], "nextPageToken": ""})
    );
    check_openapi(&document.to_string());
}

#[test]
fn words_that_have_no_place_are_refused_with_theirs() {
    let wrong = "
openapi: {path: '/{any}'}
routes:
  - grpc: library.v1.Library
    upstream: library
    describe: {summary: Books}
";
    assert_eq!(
        describe(wrong).unwrap_err(),
        ["openapi.path: must be one path", "routes[0].describe.summary: belongs to one of `methods`"]
    );
    let wrong = "
openapi: {}
routes:
  - grpc: library.v1.Library
    upstream: library
    methods: {GetBook: {describe: {examples: {parameters: {size: 1}, request: {}}}}}
";
    // GetBook has four bindings.
    let errors = describe(wrong).unwrap_err();
    let place = "routes[0].methods.GetBook.describe.examples";
    assert_eq!(
        errors[..2],
        [
            format!("{place}.parameters.size: there is no parameter of this name"),
            format!("{place}.request: there is no body in JSON"),
        ]
    );
    let wrong =
        "upstreams: {a: {endpoints: ['127.0.0.1:1'], openapi: nowhere.yaml}}\nlisteners: [{address: '127.0.0.1:0'}]\n";
    let errors = gateway::describe(wrong, &Properties::new(), None, &built_in()).unwrap_err();
    assert!(errors[0].to_string().starts_with("upstreams.a.openapi: neither built in nor a file"), "{errors:?}");
}

#[tokio::test]
async fn the_document_is_served_kept_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.yaml");
    let text = |title: &str| {
        format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\naccess_log: false\nopenapi: {{title: {title}, public: true}}\n\
             routes: [{{match: {{path: /a, method: GET}}, respond: {{status: 200}}}}]\n"
        )
    };
    fs::write(&config, text("First")).unwrap();
    let gateway = Running::watching(&config).await;
    let answer = gateway.get("/openapi.json").await;
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (document["info"]["title"].clone(), answer.header("content-type")),
        (json!("First"), "application/json".into())
    );
    assert!(document["paths"]["/a"]["get"].is_object() && document["paths"].as_object().unwrap().len() == 1);
    let etag = answer.header("etag");
    assert_eq!(gateway.send("GET", "/openapi.json", &[("if-none-match", &etag)], "").await.status, 304);
    let another = gateway.send("GET", "/openapi.json", &[("if-none-match", "\"0\"")], "").await;
    assert_eq!(another.status, 200);

    fs::write(&config, text("Second")).unwrap();
    testkit::eventually("it is made anew", std::time::Duration::from_secs(30), async || {
        let answer = gateway.get("/openapi.json").await;
        (answer.header("etag") != etag && answer.body.contains("Second")).then_some(())
    })
    .await;

    let page = gateway.get("/docs").await;
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    let asset = page.body.split('"').find(|part| part.ends_with("docs.js")).unwrap();
    let script = gateway.get(asset).await;
    assert_eq!((script.status.as_u16(), script.header("cache-control").contains("immutable")), (200, true));
    let reference = gateway.get(&asset.replace("docs.js", "scalar.js")).await;
    assert!(reference.body.contains("createApiReference"));
    gateway.get("/docs/assets/0/docs.js").await.problem();
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_reads_what_is_not_public_or_not_there() {
    let routes = "routes: [{match: {path: /a}, respond: {status: 200}}]\n";
    let gateway = Running::start(routes).await;
    assert_eq!(gateway.get("/openapi.json").await.status, 404);
    assert_eq!(gateway.get("/docs").await.status, 404);
    gateway.stop().await;
    let gateway = Running::start(&format!("openapi: {{}}\n{routes}")).await;
    assert_eq!(gateway.get("/openapi.json").await.problem()["status"], 401);
    assert_eq!(gateway.get("/docs").await.problem()["status"], 401);
    gateway.stop().await;
}
