//! The service that everything is measured in front of: as little work as an answer takes.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CACHE_CONTROL, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use proto::shop::{
    money::v1::Money,
    product::v1::{
        CreateProductRequest, DeleteProductRequest, GetProductRequest, GetStockRequest, ListProductsRequest,
        ListProductsResponse, Product, ReleaseStockRequest, ReserveStockRequest, ReserveStockResponse,
        RestockProductRequest, Stock, UpdateProductRequest,
        product_service_server::{ProductService, ProductServiceServer},
    },
};
use tokio::net::TcpListener;
use tonic::{Status, transport::server::TcpIncoming};

pub fn main(http: u16, grpc: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let plain = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], http))).await?;
        let rpc = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], grpc))).await?;
        let serve_rpc = tonic::transport::Server::builder()
            .add_service(ProductServiceServer::new(Catalogue))
            .add_service(TraceServiceServer::new(Collector))
            .serve_with_incoming(TcpIncoming::from(rpc).with_nodelay(Some(true)));
        tokio::try_join!(serve_plain(plain), async { Ok(serve_rpc.await?) })?;
        Ok(())
    })
}

async fn serve_plain(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(&[b'x'; 128])));
    if request.uri().path() == "/cached" {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    }
    Ok(response)
}

/// Takes traces, and does nothing with them.
struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        _: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

struct Catalogue;

pub fn product(number: i64) -> Product {
    Product {
        id: format!("product-{number}"),
        name: "A teapot of cast iron".to_owned(),
        description: "Keeps eight cups warm for an hour.".to_owned(),
        category: "kitchen".to_owned(),
        price: Some(Money { minor_units: 4_900 + number, currency: "EUR".to_owned() }),
        stock: 100,
        etag: "7".to_owned(),
        ..Product::default()
    }
}

pub fn products() -> ListProductsResponse {
    ListProductsResponse { products: (0..50).map(product).collect(), next_page_token: "more".to_owned() }
}

#[tonic::async_trait]
impl ProductService for Catalogue {
    async fn get_product(&self, _: tonic::Request<GetProductRequest>) -> Result<tonic::Response<Product>, Status> {
        Ok(tonic::Response::new(product(1)))
    }

    async fn list_products(
        &self,
        _: tonic::Request<ListProductsRequest>,
    ) -> Result<tonic::Response<ListProductsResponse>, Status> {
        Ok(tonic::Response::new(products()))
    }

    async fn create_product(
        &self,
        _: tonic::Request<CreateProductRequest>,
    ) -> Result<tonic::Response<Product>, Status> {
        Err(not_measured())
    }

    async fn update_product(
        &self,
        _: tonic::Request<UpdateProductRequest>,
    ) -> Result<tonic::Response<Product>, Status> {
        Err(not_measured())
    }

    async fn delete_product(&self, _: tonic::Request<DeleteProductRequest>) -> Result<tonic::Response<()>, Status> {
        Err(not_measured())
    }

    async fn restock_product(
        &self,
        _: tonic::Request<RestockProductRequest>,
    ) -> Result<tonic::Response<Product>, Status> {
        Err(not_measured())
    }

    async fn get_stock(&self, _: tonic::Request<GetStockRequest>) -> Result<tonic::Response<Stock>, Status> {
        Ok(tonic::Response::new(Stock { product_id: "product-1".to_owned(), available: 100 }))
    }

    async fn reserve_stock(
        &self,
        _: tonic::Request<ReserveStockRequest>,
    ) -> Result<tonic::Response<ReserveStockResponse>, Status> {
        Err(not_measured())
    }

    async fn release_stock(&self, _: tonic::Request<ReleaseStockRequest>) -> Result<tonic::Response<()>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("no load asks for this")
}
