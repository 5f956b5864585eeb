//! What else the listeners tell.

use lifecycle::Role as _;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tower::ServiceExt as _;

use crate::shell::{build, config, start};

#[tokio::test]
async fn reflection_tells_how_an_rpc_is_reached_over_http() {
    let shell = start().await;
    let mut client = ServerReflectionClient::new(shell.channel().await);
    let mut files = Vec::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol("shop.customer.v1.CustomerService".to_owned())];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(request) = wanted.pop() {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let Some(MessageResponse::FileDescriptorResponse(found)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("not a file");
        };
        for bytes in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(bytes.as_slice()).unwrap();
            if seen.insert(file.name().to_owned()) {
                wanted.extend(file.dependency.into_iter().map(MessageRequest::FileByFilename));
                files.push(bytes);
            }
        }
    }
    // A FileDescriptorSet is its files as field 1, so their bytes keep their extensions.
    let mut set = Vec::new();
    for file in files {
        prost::encoding::bytes::encode(1, &file, &mut set);
    }
    let pool = DescriptorPool::decode(set.as_slice()).unwrap();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let service = pool.get_service_by_name("shop.customer.v1.CustomerService").unwrap();
    let rule = service.methods().next().unwrap().options().get_extension(&http).into_owned();
    assert_eq!(rule.as_message().unwrap().get_field_by_name("post").unwrap().as_str(), Some("/accounts"));
}

#[tokio::test]
async fn the_ops_listener_gets_the_keys_that_the_service_signs_with() {
    let (folder, root) = (tempfile::tempdir().unwrap(), principal::RootSecret::generate());
    let (_, service) = build(config(&folder, &root).await).await.unwrap();
    let request = http::Request::get("/services/desk/.well-known/jwks.json").body(axum::body::Body::empty()).unwrap();
    let response = service.ops().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    let jwks: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(jwks, principal::Signer::new("/services/desk", &root).jwks());
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_one() {
    let shell = start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, &shell.root).await;
    config.listen = shell.address;
    let error = build(config).await.err().unwrap().to_string();
    assert_eq!(error, format!("desk can't have {}: is another process on it?", shell.address));
}
