//! One value of a message, with what every test asks of it.

use std::fmt::Debug;

use prost::Message;

/// An encoded message: its name, its bytes, and how a reader takes bytes of its kind.
pub(crate) struct Sample {
    /// `package/Message`, with `.variant` where a message has several.
    pub(crate) name: String,
    /// As this build writes it.
    pub(crate) bytes: Vec<u8>,
    /// Decodes and converts bytes of this kind, and shows what came out.
    pub(crate) read: fn(&[u8]) -> Result<String, String>,
}

/// A domain value and the message that carries it. Checks the round trip.
pub(crate) fn domain<D, W>(name: &str, value: D) -> Sample
where
    W: Message + Default + From<D>,
    D: TryFrom<W, Error: ToString> + PartialEq + Debug + Clone,
{
    let bytes = W::from(value.clone()).encode_to_vec();
    let back = D::try_from(W::decode(bytes.as_slice()).expect("our own bytes decode")).map_err(|error| error.to_string());
    assert_eq!(back, Ok(value), "{name} does not survive the wire");
    Sample {
        name: name.into(),
        bytes,
        read: |bytes| {
            let wire = W::decode(bytes).map_err(|error| error.to_string())?;
            D::try_from(wire).map(|value| format!("{value:?}")).map_err(|error| error.to_string())
        },
    }
}

/// A message that is used as it is.
pub(crate) fn plain<W: Message + Default + PartialEq + Debug>(name: &str, value: W) -> Sample {
    let bytes = value.encode_to_vec();
    assert_eq!(W::decode(bytes.as_slice()), Ok(value), "{name} does not survive the wire");
    Sample { name: name.into(), bytes, read: |bytes| W::decode(bytes).map(|value| format!("{value:?}")).map_err(|error| error.to_string()) }
}

/// Every sample there is.
pub(crate) fn all() -> Vec<Sample> {
    let mut samples = crate::values::samples();
    samples.extend(crate::wire_values::samples());
    samples
}
