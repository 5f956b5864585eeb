use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 9] = [
    "turnpike/auth/v1/auth.proto",
    "turnpike/bus/v1/bus.proto",
    "shop/money/v1/money.proto",
    "shop/product/v1/product.proto",
    "shop/review/v1/review.proto",
    "shop/customer/v1/customer.proto",
    "shop/cart/v1/cart.proto",
    "shop/order/v1/order.proto",
    "shop/invoice/v1/invoice.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES.map(|file| root.join(file)))?;
    // The encoded set keeps google.api.http; a round trip through prost-types would drop every extension.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // A `{:?}` of these would write a password to the log.
    config.skip_debug(["turnpike.auth.v1.AuthenticateRequest", "shop.customer.v1.CreateAccountRequest"]);
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
