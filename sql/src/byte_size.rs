//! Sizes as people write them.

/// A text that is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseBytesError {
    /// No number, or an unknown unit.
    #[error("expected a size such as 4GiB, 512MB or 1073741824")]
    Malformed,
    /// More than 64 bits hold.
    #[error("too large: at most 16EiB")]
    TooLarge,
}

/// Reads a size: a number, perhaps with a fraction, and a unit of 1000 (kB MB GB TB) or 1024 (KiB MiB GiB TiB; K M G T
/// alone mean these); no unit is bytes. Case does not matter.
pub fn parse_bytes(text: &str) -> Result<u64, ParseBytesError> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(ParseBytesError::Malformed),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or(ParseBytesError::TooLarge);
    }
    if !number.contains('.') && !number.is_empty() {
        return Err(ParseBytesError::TooLarge);
    }
    let fraction: f64 = number.parse().map_err(|_| ParseBytesError::Malformed)?;
    let bytes = fraction * unit as f64;
    if bytes >= u64::MAX as f64 { Err(ParseBytesError::TooLarge) } else { Ok(bytes as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in
            [("4GiB", 4 << 30), ("512MB", 512_000_000), ("1024", 1024), (" 1.5 kib ", 1536), ("2g", 2 << 30), ("7B", 7), ("0", 0)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "GiB", "4 gigs", "-1", "1.2.3", "four", "."] {
            assert_eq!(parse_bytes(text), Err(ParseBytesError::Malformed), "{text}");
        }
        for text in ["99999999999TiB", "99999999999999999999"] {
            assert_eq!(parse_bytes(text), Err(ParseBytesError::TooLarge), "{text}");
        }
    }
}
