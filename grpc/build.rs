//! Compiles the protos: the code, and the descriptors that reflection serves. Needs no protoc.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use prost::Message;

const PROTOS: [&str; 4] =
    ["onecard/v1/terminal.proto", "onecard/v1/admin.proto", "onecard/v1/member.proto", "onecard/v1/feed.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=onecard");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SwipeCodec")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
