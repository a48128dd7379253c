//! Bytes from the network are not trusted: whatever they are, they are read or refused, and nothing panics.

use crate::sample;

#[test]
fn a_changed_byte_never_panics() {
    for sample in sample::all() {
        for index in 0..sample.bytes.len() {
            for change in [0x01, 0x08, 0x80, 0xff] {
                let mut bytes = sample.bytes.clone();
                bytes[index] ^= change;
                let _refused_or_other = (sample.read)(&bytes);
            }
        }
    }
}

#[test]
fn a_cut_message_never_panics() {
    for sample in sample::all() {
        for len in 0..sample.bytes.len() {
            let _refused_or_shorter = (sample.read)(&sample.bytes[..len]);
        }
    }
}

#[test]
fn a_field_from_a_newer_build_is_ignored() {
    // Field 1000, a varint.
    let newer = [0xc0, 0x3e, 0x05];
    for sample in sample::all() {
        let bytes = [&sample.bytes[..], &newer].concat();
        assert_eq!((sample.read)(&bytes), (sample.read)(&sample.bytes), "{}", sample.name);
    }
}
