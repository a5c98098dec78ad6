//! Who may import whom. The table is the architecture: a new dependency is a visible edit here.

use std::{collections::BTreeSet, fs, path::Path};

/// Each crate with the crates of ours that it may import, and the outside crates. A crate sees only lines above its own, so
/// that the graph cannot have a cycle.
const LAYERS: [(&str, &[&str], &[&str]); 7] = [
    ("model", &[], &["half", "minijinja", "minijinja-contrib", "serde", "serde_json", "sha2", "tempfile", "thiserror", "tokenizers"]),
    ("task", &[], &["flate2", "num-bigint", "num-rational", "num-traits", "regex", "serde", "serde_json", "thiserror"]),
    ("runtime", &["model"], &["half", "memmap2", "rand", "rand_chacha", "thiserror"]),
    (
        "data",
        &["model", "task"],
        &[
            "csv-core",
            "flate2",
            "glob",
            "polars",
            "rand",
            "rand_chacha",
            "rayon",
            "ruzstd",
            "serde",
            "serde_json",
            "sha2",
            "tempfile",
            "thiserror",
        ],
    ),
    (
        "trainer",
        &["model", "data", "runtime"],
        &["burn", "gemm", "half", "memmap2", "rand", "rand_chacha", "rayon", "safetensors", "serde", "serde_json", "tempfile", "thiserror"],
    ),
    (
        "eval",
        &["model", "task", "runtime"],
        &["minijinja", "plotters", "rand", "rand_chacha", "serde", "serde_json", "sha2", "tempfile", "thiserror"],
    ),
    (
        "cli",
        &["model", "task", "runtime", "data", "trainer", "eval"],
        &["anyhow", "clap", "ctrlc", "indicatif", "mimalloc", "serde", "serde_json", "shlex", "strsim", "tempfile", "toml"],
    ),
];

#[test]
fn every_crate_imports_what_the_table_allows() {
    for (folder, ours, outside) in LAYERS {
        let allowed: BTreeSet<&str> = ours.iter().chain(outside).copied().collect();
        for found in dependencies(folder) {
            assert!(allowed.contains(found.as_str()), "{folder} imports {found}; see LAYERS");
        }
    }
}

#[test]
fn the_table_has_every_crate_and_no_more() {
    let manifest: toml::Table = read(&root().join("Cargo.toml"));
    let members: BTreeSet<&str> = manifest["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert_eq!(members, LAYERS.iter().map(|(folder, ..)| *folder).collect());
}

#[test]
fn a_crate_sees_only_lines_above_its_own() {
    for (index, (folder, ours, _)) in LAYERS.iter().enumerate() {
        for import in *ours {
            assert!(LAYERS[..index].iter().any(|(above, ..)| above == import), "{folder} may import {import}, which is not above it");
        }
    }
}

fn dependencies(folder: &str) -> Vec<String> {
    let manifest = read(&root().join(folder).join("Cargo.toml"));
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

fn read(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
