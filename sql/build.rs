//! Fingerprints what plans and their bytes are made by, so that a scheduler can refuse executors of another build.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// What decides how a plan is encoded and how rows are routed: our planner and messages, and the versions of the engine.
const SOURCES: [&str; 4] = ["src", "../proto/src", "../proto/proto", "../Cargo.lock"];

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        collect(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut fingerprint = Fnv::default();
    for file in files {
        fingerprint.add(file.to_string_lossy().as_bytes());
        fingerprint.add(&fs::read(&file)?);
    }
    println!("cargo:rustc-env=VOLLEY_FINGERPRINT={:012x}", fingerprint.0 & 0xffff_ffff_ffff);
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.exists() {
        files.push(path.to_owned());
    }
    Ok(())
}

/// FNV-1a with 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same on every machine, and no dependency.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        // The length keeps the end of one piece apart from the beginning of the next.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
