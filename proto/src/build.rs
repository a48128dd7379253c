//! Which build this is: plans and hash functions of different builds don't fit together, so a scheduler takes only executors of its own.

/// The build's version, with the commit where the build was told of it by the variable `VOLLEY_COMMIT`.
pub fn build_id() -> String {
    match option_env!("VOLLEY_COMMIT") {
        Some(commit) => format!("{}+{commit}", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}
