//! Puts the API reference that `/docs` shows into the program, coded once and for all.

use std::{env, error::Error, fs::File, path::PathBuf};

use flate2::{Compression, write::GzEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let script = scalar_api_reference::get_asset("scalar.js").ok_or("scalar_api_reference has no scalar.js")?;
    let file = File::create(PathBuf::from(env::var("OUT_DIR")?).join("scalar.js.gz"))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    std::io::Write::write_all(&mut encoder, &script)?;
    encoder.finish()?;
    Ok(())
}
