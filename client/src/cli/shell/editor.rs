//! A statement in the user's own editor.

use std::io::Write;
use std::process::Command;

/// Lets the user edit a text; gives what it has become.
pub(super) fn edit(text: &str) -> Result<String, String> {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".into());
    let broken = |error: std::io::Error| format!("can't edit a file for the statement: {error}");
    let mut file = tempfile::Builder::new().prefix("volley-").suffix(".sql").tempfile().map_err(broken)?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(broken)?;
    let ended = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status().map_err(broken)?;
    if !ended.success() {
        return Err(format!("the editor '{editor}' ended with {ended}: set VISUAL or EDITOR to another one"));
    }
    // Editors may replace the file rather than write it.
    std::fs::read_to_string(file.path()).map(|text| text.trim_end().to_owned()).map_err(broken)
}
