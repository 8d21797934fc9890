//! Compiles the wire with protox, so that no `protoc` has to be installed.
//!
//! The descriptor set keeps comments: reflection, the console and generated documentation show them.

use std::{env, fs, path::PathBuf};

const FILES: [&str; 5] = [
    "anabranch/timeseries/v1/timeseries_service.proto",
    "anabranch/admin/v1/admin_service.proto",
    "anabranch/pipeline/v1/detection.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // Payloads are shared with the buffer they arrived in, not copied.
        .bytes(".")
        // Errors are built with `tonic-types`, which has these types already.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .include_file("wire.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
